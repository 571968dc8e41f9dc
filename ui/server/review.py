"""The review of labels as a web application: one page, and the routes by which it reads and writes annotations."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from datamodules.label_folder import LabelFolder
from ui.commands.serve import address_of, is_local, listen, run_server
from ui.review import Changed, Review
from ui.server.factory import prepare
from ui.server.faults import status_of
from ui.server.login import Accounts, Login
from ui.server.security_middleware import Application, Guard
from ui.stopping import stopped_by_signal
from visionkit.errors import Interrupted


def review_application(review: Review, host: str = "127.0.0.1", accounts: Accounts | None = None) -> Guard:
    """The whole ASGI application.

    Args:
        review: What the page asks for.
        host: The address that is listened on.
        accounts: Who may log in; everybody may use the page by default.
    """
    from ui.pages.base import STAGE
    from ui.pages.review import SCRIPT, page
    from ui.server.api import BARE
    from ui.server.app import mount
    from ui.server.gradio_hardening import is_closed

    app = FastAPI(**BARE)  # type: ignore[arg-type]
    add_review_routes(app, review)
    mount(app, page(), [STAGE, SCRIPT], 1)
    behind: Application = Login(app, accounts, "") if accounts else app
    return Guard(behind, host, closed=is_closed)


def add_review_routes(app: FastAPI, review: Review) -> None:
    """Adds the routes of the page.

    Args:
        app: Application that gets the routes.
        review: What they ask.
    """

    async def respond(work: Callable[..., Any], *given: Any) -> Response:
        try:
            found = await anyio.to_thread.run_sync(work, *given)
        except LookupError:
            return JSONResponse({"error": "there is no image of that name"}, 404)
        except Changed as error:
            return JSONResponse({"error": str(error)}, 409)
        except Exception as error:
            status, words = status_of(error)
            return JSONResponse({"error": words}, status)
        if isinstance(found, bytes):
            return Response(found, media_type="image/jpeg", headers={"cache-control": "no-store"})
        return JSONResponse(found)

    @app.get("/api/review")
    async def overview() -> Response:
        return await respond(review.overview)

    @app.get("/api/review/image")
    async def image(name: str = "") -> Response:
        return await respond(review.jpeg, name)

    @app.get("/api/review/objects")
    async def objects(name: str = "") -> Response:
        return await respond(review.objects, name)

    @app.post("/api/review")
    async def save(request: Request, name: str = "") -> Response:
        try:
            record = json.loads(await request.body())
        except (ValueError, RecursionError):
            return JSONResponse({"error": "not valid json"}, 400)
        return await respond(review.save, name, record)


def serve_review(
    folder: LabelFolder, host: str, port: int, auth_file: str | None, debug: bool, model: str | None
) -> None:
    """Serves the page until the process is interrupted, which is how a review ends.

    Args:
        folder: Folder of the labels, opened for writing.
        host: Address to listen on.
        port: Port to listen on.
        auth_file: File of the accounts that may log in.
        debug: Unexpected failures are raised.
        model: The model that training goes on from.
    """
    accounts = Accounts(Path(auth_file)) if auth_file else None
    if not (accounts or is_local(host)):
        print(
            f"visionkit: --host {host}: everybody who reaches it may change the labels; --auth-file asks for a login",
            file=sys.stderr,
        )
    try:
        with (
            stopped_by_signal() as check_stopped,
            closing(listen(host, port)) as door,
            tempfile.TemporaryDirectory(prefix="visionkit-") as scratch,
        ):
            prepare(Path(scratch))
            app = review_application(Review(folder, model), host, accounts)
            run_server(app, door, address_of(host, door), check_stopped, title="review", debug=debug)
    except Interrupted:
        print(file=sys.stderr)  # after the ^C of the terminal
