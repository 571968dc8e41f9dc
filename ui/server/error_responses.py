"""What the routes of an application respond where reading a request, or the work itself, raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from h11 import ProtocolError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from ui import strings
from ui.server.error_bodies import error_body, is_of_pages
from ui.server.faults import is_lack, log, status_of

_REQUEST = (
    *(ValueError, TypeError, AttributeError, AssertionError, RecursionError, FileNotFoundError, PermissionError),
    *(MultiPartException, ClientDisconnect, ProtocolError),
)
"""What reading a request raises, in the routes and below."""


_WORDS = {404: strings.UNKNOWN, 405: strings.WRONG_METHOD}
"""What stands for the framework's own words."""


def _response(request: Request, words: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error in the one form that programs read; the script of the pages reads it by its own name."""
    if is_of_pages(path := request.url.path):
        return JSONResponse({"detail": words}, status, headers)
    kind, body = error_body(words, path, request.headers.get("accept", ""))
    return Response(body, status, headers, media_type=kind.decode())


def speak(app: FastAPI, missing: Sequence[type[Exception]] = ()) -> None:
    """Makes the routes of an application, and of those mounted in it, respond in words what they otherwise raise.

    Args:
        app: The application.
        missing: Further exceptions that mean that there is nothing by the name that a request has.
    """

    async def unknown(request: Request, error: Exception) -> Response:
        return _response(request, strings.UNKNOWN, 404)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if is_of_pages(request.url.path):
            return await http_exception_handler(request, error)
        words = _WORDS.get(error.status_code, str(error.detail))
        if error.status_code == 405 and (allowed := (error.headers or {}).get("Allow")):
            words = f"{words} ({request.method}; allowed: {allowed})"
        return _response(request, words, error.status_code, error.headers)

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first.get("loc", ()))[:80]
        return _response(request, f"{strings.UNFIT} ({place}: {str(first.get('msg', ''))[:160]})", 422)

    async def broken(request: Request, error: Exception) -> Response:
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, (*_REQUEST, LookupError, HTTPException)):
            error = error.__cause__  # raised once the response had begun, which Starlette reports in its own words
        if isinstance(error, (*_REQUEST, LookupError, HTTPException)) and not is_lack(error):
            log("a request that does not fit", error)
            return _response(request, strings.UNFIT, 400)
        status, words = status_of(error)
        return _response(request, words, status)

    mounted = [getattr(route, "app", None) for route in app.routes]
    for each in (app, *(one for one in mounted if isinstance(one, FastAPI))):
        # What the routes look up by a name of the request, and do not find.
        each.add_exception_handler(LookupError, unknown)
        for absent in missing:
            each.add_exception_handler(absent, unknown)
        each.add_exception_handler(HTTPException, refused)
        each.add_exception_handler(RequestValidationError, unfit)
        for kind in (*_REQUEST, OSError, MemoryError, Exception):
            each.add_exception_handler(kind, broken)
