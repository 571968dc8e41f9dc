"""Routes beside the page: whether the server is well, its metrics, and one image by one request.

curl --data-binary @photo.jpg 'http://127.0.0.1:7860/api/predict?model=NAME'
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection
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

from ui import strings
from ui.inference import InferenceResult, Upload
from ui.model_registry import ModelEntry
from ui.reports import POLICY as REPORT_POLICY
from ui.reports import Reports
from ui.server.error_bodies import RETRY_AFTER
from ui.server.faults import status_of
from ui.server.job_queue import Busy, JobQueue
from ui.server.limits import MB
from ui.server.mcp import Tools, read_message
from ui.server.metrics import CONTENT_TYPE
from visionkit.errors import DataError, UsageError
from visionkit.inputs import check_names
from visionkit.registry import task_pages


def add_routes(app: FastAPI, job_queue: JobQueue, folder: Path, ready: Callable[[], bool]) -> None:
    """Adds the routes.

    Args:
        app: Application that gets the routes.
        job_queue: Where images are processed.
        folder: For images that are being processed; the reports that pages show lie there too.
        ready: Whether what is heavy is loaded.
    """
    reader, reports = anyio.CapacityLimiter(1), Reports(folder)
    limiter = anyio.CapacityLimiter(job_queue.limits.queue + job_queue.limits.concurrency + 1)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """200 as soon as the server responds; `ready` once no visitor waits for libraries any more."""
        return {"status": "ok", "ready": ready(), "running": job_queue.running, "waiting": job_queue.waiting}

    @app.get("/ready")
    async def is_ready() -> Response:
        """200 once no visitor waits for libraries any more, 503 until then: whoever balances the load asks for it."""
        return JSONResponse({"ready": ready()}, 200 if ready() else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(job_queue.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/report/{token}")
    async def report(token: str) -> Response:
        """A report for the frame of its page; it runs nothing."""
        page = await anyio.to_thread.run_sync(reports.page, token)
        if page is None:
            return Response(strings.REPORT_GONE, 404, {"content-security-policy": REPORT_POLICY}, "text/plain")
        return Response(page, 200, {"content-security-policy": REPORT_POLICY}, "text/html")

    @app.get("/api/models")
    async def models() -> list[dict[str, Any]]:
        return await anyio.to_thread.run_sync(lambda: [listed(entry) for entry in job_queue.model_registry.entries()])

    @app.post("/api/predict")
    async def predict(request: Request) -> Response:
        """The response as json, or the drawn image with `?drawn=1`; other parameters are options of the call."""
        asked = request.query_params
        options = {name: _value(text) for name, text in asked.items() if name not in ("model", "detector", "drawn")}
        try:
            with ExitStack() as files:

                def file_for_one() -> Any:
                    return files.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="asked-"))

                with job_queue.receiving():
                    uploads = await receive_all(request, file_for_one, job_queue.limits.image_mb)

                def work() -> InferenceResult:
                    upload, others = by_input(uploads, input_names(job_queue, asked.get("model")), options)
                    detector = asked.get("detector")
                    return job_queue.ask(
                        asked.get("model"),
                        upload,
                        detector,
                        channel="program",
                        options=options,
                        strict=True,
                        others=others,
                    )

                result = await anyio.to_thread.run_sync(work, limiter=limiter)
            if asked.get("drawn") in (None, "", "0", "false"):
                # Beside the record, which is the same whoever asks.
                novelty = result.novelty
                headers = {"x-out-of-distribution": f"{novelty.score:.3f}"} if novelty is not None else {}
                if result.cautions:
                    headers["x-caution"] = "; ".join(result.cautions)
                return JSONResponse(result.prediction.to_json(), headers=headers)
            drawn = await anyio.to_thread.run_sync(lambda: _drawn(result), limiter=limiter)
        except (HTTPException, MultiPartException):
            raise
        except Exception as error:
            return refused(error)
        return Response(drawn, media_type="image/jpeg")

    tools = Tools(job_queue, lambda: [listed(entry) for entry in job_queue.model_registry.entries()], _drawn)

    @app.post("/mcp")
    async def mcp(request: Request) -> Response:
        """The same as tools of the Model Context Protocol."""
        try:
            with (
                tempfile.NamedTemporaryFile(dir=folder, prefix="asked-") as body,
                tempfile.NamedTemporaryFile(dir=folder, prefix="asked-") as image,
            ):
                with job_queue.receiving():
                    async for chunk in request.stream():
                        body.write(chunk)
                        if body.tell() > tools.largest:
                            return JSONResponse({"error": f"a message may have {tools.largest // MB} MB"}, 413)
                    body.flush()
                    # One at a time: only here a whole message is in memory.
                    message = await anyio.to_thread.run_sync(
                        lambda: read_message(Path(body.name), Path(image.name)), limiter=reader
                    )
                prediction = await anyio.to_thread.run_sync(
                    lambda: tools.respond(message, Path(image.name)), limiter=limiter
                )
        except Exception as error:
            return refused(error)
        return Response(status_code=202) if prediction is None else JSONResponse(prediction)

    @app.get("/mcp")
    async def no_stream() -> Response:
        return JSONResponse({"error": "this server sends nothing by itself"}, 405, {"allow": "POST"})


def refused(error: Exception) -> Response:
    """The response to a failure of the work."""
    if isinstance(error, ClientDisconnect):  # nobody is there to read it
        return Response(status_code=400)
    status, words = status_of(error)
    return JSONResponse({"error": words}, status, {"retry-after": RETRY_AFTER} if isinstance(error, Busy) else {})


def _value(text: str) -> Any:
    """A value of the query: json where it can be read as such, otherwise text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def listed(entry: ModelEntry) -> dict[str, Any]:
    """A model as programs see it."""
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "example_model": entry.example_model,
        "terms": entry.card.get("terms"),
        "fault": entry.fault or None,
    }


MOST_INPUTS = 8
"""Images that one request may send: a model with more inputs is not known."""


async def receive_all(request: Request, file_for_one: Callable[[], Any], most: int) -> dict[str, Upload]:
    """Writes the images of a request into files: its body, or every file of its form by the name of its part.

    Args:
        request: Request with one image as its body, or files in its form.
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
                uploads[key] = Upload(file.name, Path(part.filename or "image").name)
    finally:
        await form.close()
    if not uploads:
        raise UsageError("send the image as a file: curl -F image=@photo.jpg")
    return uploads


def by_input(
    uploads: dict[str, Upload], names: tuple[str, ...], options: Collection[str] = ()
) -> tuple[Upload, dict[str, Upload]]:
    """The reference image and the further inputs.

    Args:
        uploads: Uploads by the names of the parts; a single image may have any name.
        names: Names of the model's inputs.
        options: Names of the options of the call; one of an input's name stands for it.

    Raises:
        UsageError: Inputs that the model does not have, or too few of them.
    """
    names = tuple(name for name in names if name not in options)
    if len(uploads) == 1 and len(names) == 1:
        return next(iter(uploads.values())), {}
    if "" in uploads:
        parts = " ".join(f"-F {name}=@{name}.jpg" for name in names)
        kinds = {name: how for page in task_pages().values() for name, how in page.also.items()}
        numbers = [name for name in names[1:] if not isinstance(kinds.get(name, ""), str)]
        or_number = f", or {numbers[0]} as a number: &{numbers[0]}=25" if numbers else ""
        raise UsageError(
            f"this model needs the inputs {', '.join(names)}; send each as a file: curl {parts}{or_number}"
        )
    check_names(list(uploads), names, "this model")
    return uploads[names[0]], {name: uploads[name] for name in names[1:]}


def input_names(job_queue: JobQueue, model: str | None) -> tuple[str, ...]:
    """The names of a model's inputs; those of a single image where the model is not known, which is reported later."""
    return job_queue.model_registry.inputs(model, opened=True)


async def receive(request: Request, file: Any, most: int, what: str = "image") -> str:
    """Writes the image or the video of a request into a file, bare or as a part of a form, and gives its name.

    Args:
        request: Request with the image as its body, or as a file of its form.
        file: Open for writing.
        most: Megabytes that it may have.
        what: "image" or "video".

    Raises:
        UsageError: None was sent.
        DataError: It is too large.
    """
    example = "photo.jpg" if what == "image" else "video.mp4"
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = await request.form(max_files=1, max_fields=10)
        try:
            part = next((each for each in form.values() if not isinstance(each, str)), None)
            if part is None:
                raise UsageError(f"send the {what} as a file: curl -F {what}=@{example}")
            name = Path(part.filename or what).name
            while chunk := await part.read(MB):
                _write(file, chunk, most, what)
        finally:
            await form.close()
    else:
        name = what
        async for chunk in request.stream():
            _write(file, chunk, most, what)
    if not file.tell():
        route = "predict" if what == "image" else "track"
        article = "an" if what == "image" else "a"
        raise UsageError(f"send {article} {what}: curl --data-binary @{example} 'ADDRESS/api/{route}?model=NAME'")
    file.flush()
    return name


def _write(file: Any, chunk: bytes, most: int, what: str = "image") -> None:
    if file.tell() + len(chunk) > most * MB:
        raise DataError(f"{'an' if what == 'image' else 'a'} {what} may have {most} MB")
    file.write(chunk)


def _drawn(result: InferenceResult) -> bytes:
    from visionkit.drawing import jpeg

    return jpeg(result.prediction.draw(result.image))
