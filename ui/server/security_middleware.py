"""What stands between the network and the demo: its names, who may send, how much, and what browsers may do.

Gradio by itself takes any Host header and cross-site uploads, limits no body and sends no security headers. This is
plain ASGI, with no framework imported, and holds for every route.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from ui.reports import POLICY as REPORT_POLICY
from ui.server.error_bodies import RETRY_AFTER, error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOAD_LIMIT = 256 * 2**20
"""Bytes of a file that is sent."""

BODY_LIMIT = 2 * 2**20
"""Bytes of any other request."""

BROKEN = "there is nothing of that name here, or something went wrong"
"""What is reported where the application breaks off."""

_REFUSED: Message = {"type": "http.response.body"}
"""Stands for a response that was sent in place of the application's."""

OVERHEAD = 2**16
"""Bytes around a file in its request."""

FILE_ROUTES = ("/gradio_api/upload", "/api/predict", "/api/track", "/api/find", "/api/identify", "/mcp")
"""Where files are sent."""

IDLE, SLOWEST = 60.0, 1000.0
"""Seconds without a byte of a body, and bytes per second in the mean, after which its sender is given up."""

HELD = 64 * 2**20
"""Bytes of unfinished requests that may lie in memory, of all senders together; files go to the disk."""

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",  # the page's configuration is an inline script
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-src 'self'",  # reports, which run nothing
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)

FRAMED = (
    *(pair for pair in HEADERS if pair[0] not in (b"content-security-policy", b"x-frame-options")),
    (b"content-security-policy", REPORT_POLICY.encode()),
    (b"x-frame-options", b"SAMEORIGIN"),
)
"""Headers of a report, which stands in a frame of this server's own pages."""


class Guard:
    """Wraps an ASGI application.

    Args:
        application: What it protects.
        host: The address that is listened on.
        names: Further names that browsers may use.
        largest: Bytes of a file that is sent.
        closed: States paths that are not served.
    """

    def __init__(
        self,
        application: Application,
        host: str,
        names: Iterable[str] = (),
        largest: int = UPLOAD_LIMIT,
        closed: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._application, self._largest, self._closed = application, largest, closed
        self._ending, self._held = asyncio.Event(), 0
        self._names = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in names)}
        self._open = host in ("", "0.0.0.0", "::")
        if self._open:
            self._names.add(socket.gethostname().lower())

    def end(self) -> None:
        """Ends the streams that are open, as if their readers had gone: the server stops."""
        self._ending.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":  # the demo uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        forwarded = headers.get(b"x-forwarded-host", "").partition(",")[0].strip()
        if forwarded and not self._is_known(forwarded):  # gradio would build its addresses from it
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"x-forwarded-host"]
        elif not forwarded and (seen := _with_port(headers)):
            scope["headers"] = [*scope["headers"], (b"x-forwarded-host", seen.encode("latin-1"))]
        send = _with_headers(send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _respond(send, *refusal, scope)
            return
        takes_files = scope["path"].rstrip("/").endswith(FILE_ROUTES)
        limit = self._largest + OVERHEAD if takes_files else BODY_LIMIT
        length = headers.get(b"content-length", "")
        if length.isdigit() and int(length) > limit:
            await _respond(send, 413, f"more than {limit // 2**20} MB", scope)
            return
        begun: list[Message] = []
        body = _Body(receive, limit, self._ending, None if takes_files else self._hold)

        async def noted(message: Message) -> None:
            if body.refusal is not None and not begun:  # whatever the application makes of half a body
                begun.append(_REFUSED)
                await _respond(send, *body.refusal, scope)
            elif begun[:1] != [_REFUSED]:
                begun[:] = [message]
                await send(message)

        try:
            await self._application(scope, body, noted)
            if body.refusal is not None and not begun:
                await _respond(send, *body.refusal, scope)
        except Exception as error:
            # One line is enough: whoever sends nonsense fills no log with it.
            report = ascii(f"{scope['method']} {scope['path']}: {type(error).__name__}: {error}")[1:-1]
            print(f"visionkit: {report[:300]}", file=sys.stderr)
            with contextlib.suppress(
                Exception
            ):  # what was no http has ended its connection: nobody is left to respond to
                await _finish(send, begun[0] if begun else None, scope, body.refusal)
        finally:
            if not takes_files:
                self._held -= body.taken

    def _hold(self, number: int) -> bool:
        """Counts bytes that are held in memory; false where that is too much."""
        self._held += number
        return self._held <= HELD

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if not self._is_known(host):
            # A page elsewhere can point a name of its own at this address; its images and models are not for it.
            return 421, "this server is not called by that name; start it with --allow-host NAME to add one"
        if self._closed(scope["path"]):
            return 404, "there is nothing by that name here"
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        return None if _is_same_origin(headers, host) else (403, "sent from another site")

    def _is_known(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name in self._names:
            return True
        if not self._open:
            return False
        try:  # listening on every address: any of them is right, while a foreign name is not
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_same_origin(headers: dict[bytes, str], host: str) -> bool:
    """Whether a request that changes something comes from a page of this server, or from no page at all."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:  # the browser's own judgment, of the address that it sees, whatever a proxy makes of it
        return site in ("none", "same-origin")
    origin = headers.get(b"origin")
    if origin is None:
        return True
    there = origin.partition("://")[2]
    # Some proxies pass the name on without the port that the browser uses.
    return host in (there, _without_port(there)) if host else False


def _with_port(headers: dict[bytes, str]) -> str:
    """The name and port that the browser uses, where a proxy has dropped the port from `Host`; otherwise empty."""
    host = headers.get(b"host", "")
    for name in (b"origin", b"referer"):
        there = headers.get(name, "").partition("://")[2].partition("/")[0]
        if host and there != host and _without_port(there) == host and there[len(host) + 1 :].isdigit():
            return there
    return ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = dict(message.get("headers", ()))
            framed = given.get(b"content-security-policy") == REPORT_POLICY.encode()
            ours = {name for name, _ in HEADERS}
            kept = [
                (name, value)
                for name, value in message.get("headers", ())
                # Gradio lets pages of other local servers read its responses.
                if name.lower() not in ours and not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*kept, *(FRAMED if framed else HEADERS)]}
        await send(message)

    return wrapped


class _Body:
    """Hands the body of a request over as long as it is not too large, too slow or, where it is held, too much.

    Args:
        receive: Receive of the request.
        limit: Bytes that the body may have.
        ending: Set when the server stops.
        hold: Counts bytes that stay in memory, and is false where there are too many; None where they go to the disk.

    Attributes:
        taken: Bytes so far.
        refusal: Status and words of why the rest is not read; None where it is.
    """

    def __init__(
        self, receive: Receive, limit: int, ending: asyncio.Event, hold: Callable[[int], bool] | None = None
    ) -> None:
        self._receive, self._limit, self._ending, self._hold = receive, limit, ending, hold
        self.taken, self._whole, self._begin = 0, False, time.monotonic()
        self.refusal: tuple[int, str] | None = None

    async def __call__(self) -> Message:
        if self._whole:  # whoever waits now waits for the end of the connection
            return await self._end()
        left = self._begin + IDLE + self.taken / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(IDLE, left)))
        except TimeoutError:
            self.refusal = 408, "the rest of the request did not come in time"
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._whole = not message.get("more_body")
            number = len(message.get("body", b""))
            self.taken += number
            kept = self._hold is None or self._hold(number)
            if self.taken > self._limit or not kept:
                # No length was announced. Ending the stream makes whoever reads it give up.
                over = f"more than {self._limit // 2**20} MB"
                self.refusal = (413, over) if self.taken > self._limit else (503, "too many requests at once")
                return {"type": "http.disconnect"}
        return message

    async def _end(self) -> Message:
        gone, ending = (asyncio.ensure_future(each) for each in (self._receive(), self._ending.wait()))
        try:
            await asyncio.wait((gone, ending), return_when=asyncio.FIRST_COMPLETED)
            return gone.result() if gone.done() else {"type": "http.disconnect"}  # type: ignore[return-value]
        finally:
            gone.cancel()
            ending.cancel()


async def _finish(send: Send, last: Message | None, scope: Scope, refusal: tuple[int, str] | None) -> None:
    """Ends a response that the application broke off, given the last message that it sent."""
    if last is None:
        await _respond(send, *(refusal or (500, BROKEN)), scope)
    elif last["type"] == "http.response.start" or last.get("more_body"):
        event = f'event: error\ndata: {{"error": "{BROKEN}"}}\n\n'.encode()  # what streams here are events
        await send({"type": "http.response.body", "body": event, "more_body": False})


async def _respond(send: Send, status: int, text: str, scope: Scope) -> None:
    accept = next((value for key, value in scope["headers"] if key.lower() == b"accept"), b"")
    kind, body = error_body(text, str(scope["path"]), accept.decode("latin-1"))
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", RETRY_AFTER.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
