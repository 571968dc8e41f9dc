"""Routes beside the page: whether the server is well, its figures, and one picture by one request.

curl --data-binary @photo.jpg 'http://127.0.0.1:7860/api/predict?model=NAME'
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from ui.answering import Answered, Upload
from ui.catalogue import Entry
from ui.serving.desk import Busy, Desk
from ui.serving.faults import status_of
from ui.serving.limits import MB
from ui.serving.mcp import Tools, read_message
from ui.serving.metrics import CONTENT_TYPE
from visionkit.errors import DataError, UsageError
from visionkit.inputs import check_names
from visionkit.registry import task_pages


def add_routes(app: FastAPI, desk: Desk, folder: Path, ready: Callable[[], bool]) -> None:
    """Adds the routes.

    Args:
        app: That answers them.
        desk: Where pictures are answered.
        folder: For pictures that are being answered.
        ready: Whether what is heavy is loaded.
    """
    reader = anyio.CapacityLimiter(1)
    limiter = anyio.CapacityLimiter(desk.limits.queue + desk.limits.concurrency + 1)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """200 as soon as the server answers; `ready` once no visitor waits for libraries any more."""
        return {"status": "ok", "ready": ready(), "running": desk.running, "waiting": desk.waiting}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(desk.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/api/models")
    async def models() -> list[dict[str, Any]]:
        return await anyio.to_thread.run_sync(lambda: [listed(entry) for entry in desk.catalogue.entries()])

    @app.post("/api/predict")
    async def predict(request: Request) -> Response:
        """The answer as json, or the drawn picture with `?drawn=1`; other parameters are options of the call."""
        asked = request.query_params
        options = {name: _value(text) for name, text in asked.items() if name not in ("model", "detector", "drawn")}
        try:
            with ExitStack() as files:

                def file_for_one() -> Any:
                    return files.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="asked-"))

                with desk.receiving():
                    uploads = await receive_all(request, file_for_one, desk.limits.picture_mb)

                def work() -> Answered:
                    upload, others = told_apart(uploads, input_names(desk, asked.get("model")))
                    detector = asked.get("detector")
                    return desk.ask(
                        asked.get("model"),
                        upload,
                        detector,
                        road="program",
                        options=options,
                        strict=True,
                        others=others,
                    )

                answered = await anyio.to_thread.run_sync(work, limiter=limiter)
            if asked.get("drawn") in (None, "", "0", "false"):
                # Beside the record, which is the same whoever asks.
                novelty = answered.novelty
                headers = {"x-out-of-distribution": f"{novelty.score:.3f}"} if novelty is not None else {}
                return JSONResponse(answered.prediction.to_json(), headers=headers)
            drawn = await anyio.to_thread.run_sync(lambda: _drawn(answered), limiter=limiter)
        except (HTTPException, MultiPartException):
            raise
        except Exception as error:
            return refused(error)
        return Response(drawn, media_type="image/jpeg")

    tools = Tools(desk, lambda: [listed(entry) for entry in desk.catalogue.entries()], _drawn)

    @app.post("/mcp")
    async def mcp(request: Request) -> Response:
        """The same as tools of the Model Context Protocol."""
        try:
            with (
                tempfile.NamedTemporaryFile(dir=folder, prefix="asked-") as body,
                tempfile.NamedTemporaryFile(dir=folder, prefix="asked-") as picture,
            ):
                with desk.receiving():
                    async for chunk in request.stream():
                        body.write(chunk)
                        if body.tell() > tools.largest:
                            return JSONResponse({"error": f"a message may have {tools.largest // MB} MB"}, 413)
                    body.flush()
                    # One at a time: only here a whole message is in memory.
                    message = await anyio.to_thread.run_sync(
                        lambda: read_message(Path(body.name), Path(picture.name)), limiter=reader
                    )
                answer = await anyio.to_thread.run_sync(
                    lambda: tools.answer(message, Path(picture.name)), limiter=limiter
                )
        except Exception as error:
            return refused(error)
        return Response(status_code=202) if answer is None else JSONResponse(answer)

    @app.get("/mcp")
    async def no_stream() -> Response:
        return JSONResponse({"error": "this server sends nothing by itself"}, 405, {"allow": "POST"})


def refused(error: Exception) -> Response:
    """The response to a failure of the work."""
    if isinstance(error, ClientDisconnect):  # nobody is there to read it
        return Response(status_code=400)
    status, words = status_of(error)
    return JSONResponse({"error": words}, status, {"retry-after": "5"} if isinstance(error, Busy) else {})


def _value(text: str) -> Any:
    """A value of the query: json where it can be read as such, otherwise text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def listed(entry: Entry) -> dict[str, Any]:
    """A model as programs are told of it."""
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "starter": entry.starter,
        "terms": entry.card.get("terms"),
        "fault": entry.fault or None,
    }


MOST_INPUTS = 8
"""Images that one request may send: a model with more inputs is not known."""


async def receive_all(request: Request, file_for_one: Callable[[], Any], most: int) -> dict[str, Upload]:
    """Writes the images of a request into files: its body, or every file of its form by the name of its part.

    Args:
        request: With one image as its body, or files in its form.
        file_for_one: Opens a file to write into.
        most: Megabytes that an image may have.

    Raises:
        UsageError: No image was sent, or two under one name.
        DataError: One is too large.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        file = file_for_one()
        return {"": Upload(file.name, await receive(request, file, most))}
    form = await request.form(max_files=MOST_INPUTS, max_fields=10)
    uploads: dict[str, Upload] = {}
    try:
        for key, part in form.multi_items():
            if isinstance(part, str):
                continue
            if key in uploads:
                raise UsageError(f"two images under the name {key}; give each input once")
            file = file_for_one()
            while chunk := await part.read(MB):
                _write(file, chunk, most)
            file.flush()
            if file.tell():
                uploads[key] = Upload(file.name, Path(part.filename or "picture").name)
    finally:
        await form.close()
    if not uploads:
        raise UsageError("send the picture as a file: curl -F picture=@photo.jpg")
    return uploads


def told_apart(uploads: dict[str, Upload], names: tuple[str, ...]) -> tuple[Upload, dict[str, Upload]]:
    """The reference image and the further inputs.

    Args:
        uploads: By the names of the parts; a single image may have any name.
        names: Of the model's inputs.

    Raises:
        UsageError: Inputs that the model does not have, or too few of them.
    """
    if len(uploads) == 1 and len(names) == 1:
        return next(iter(uploads.values())), {}
    check_names(list(uploads), names, "this model")
    return uploads[names[0]], {name: uploads[name] for name in names[1:]}


def input_names(desk: Desk, model: str | None) -> tuple[str, ...]:
    """The names of a model's inputs; those of a single image where the model is not known, which is reported later."""
    entry = next((each for each in desk.catalogue.entries() if each.name == (model or "").strip()), None)
    page = task_pages().get(entry.task) if entry is not None else None
    return page.inputs if page is not None else ("image",)


async def receive(request: Request, file: Any, most: int) -> str:
    """Writes the picture of a request into a file, bare or as a part of a form, and gives its name.

    Args:
        request: With the picture as its body, or as a file of its form.
        file: Open for writing.
        most: Megabytes that the picture may have.

    Raises:
        UsageError: No picture was sent.
        DataError: It is too large.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = await request.form(max_files=1, max_fields=10)
        try:
            part = next((each for each in form.values() if not isinstance(each, str)), None)
            if part is None:
                raise UsageError("send the picture as a file: curl -F picture=@photo.jpg")
            name = Path(part.filename or "picture").name
            while chunk := await part.read(MB):
                _write(file, chunk, most)
        finally:
            await form.close()
    else:
        name = "picture"
        async for chunk in request.stream():
            _write(file, chunk, most)
    if not file.tell():
        raise UsageError("send a picture: curl --data-binary @photo.jpg 'ADDRESS/api/predict?model=NAME'")
    file.flush()
    return name


def _write(file: Any, chunk: bytes, most: int) -> None:
    if file.tell() + len(chunk) > most * MB:
        raise DataError(f"a picture may have {most} MB")
    file.write(chunk)


def _drawn(answered: Answered) -> bytes:
    from visionkit.drawing import jpeg

    return jpeg(answered.prediction.draw(answered.picture))
