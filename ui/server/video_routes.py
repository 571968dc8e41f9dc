"""A video by one request: its objects with ids, as records, MOTChallenge's text or the drawn video.

curl --data-binary @video.mp4 'http://127.0.0.1:7860/api/track?model=NAME'
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from ui.inference import Upload
from ui.server.faults import status_of
from ui.server.job_queue import Busy, JobQueue
from ui.server.limits import MB
from ui.server.routes import receive, refused
from ui.server.security_middleware import Receive, Scope, Send
from ui.video_files import TEXT, VIDEO
from ui.video_results import RATES
from ui.videos import VideoProgress, VideoRequest, read_lines, watch
from visionkit.errors import UsageError, suggest

FORMATS = {"jsonl": "application/x-ndjson", "mot": "text/plain; charset=utf-8", "mp4": "video/mp4"}
PARAMETERS = ("model", "tracker", "rate", "line", "format")

NO_TRACKER = "none"
"""Name of the tracker that follows nothing: every frame is predicted on by itself."""

VIDEOS = 2
"""Videos of programs that are processed at the same time."""


class _Slots:
    """The videos of programs that are processed, few at a time."""

    def __init__(self) -> None:
        self.taken = 0

    def check(self) -> None:
        """Checks that one is free.

        Raises:
            Busy: None is.
        """
        if self.taken >= VIDEOS:
            raise Busy(f"{VIDEOS} videos are being processed already, as many as may; try again in a moment")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds one.

        Raises:
            Busy: None is free.
        """
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class _Streamed(StreamingResponse):
    """A response that releases what it needs once it is sent, or nobody takes it any more."""

    def __init__(self, content: Any, media_type: str, needs: contextlib.ExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._needs = needs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._needs:
            await super().__call__(scope, receive, send)


def add_video_routes(app: FastAPI, job_queue: JobQueue, folder: Path) -> None:
    """Adds the route.

    Args:
        app: Application that gets the route.
        job_queue: Where frames are processed.
        folder: For videos that are being processed.
    """
    slots, limiter = _Slots(), anyio.CapacityLimiter(VIDEOS)

    @app.post("/api/track")
    async def track(request: Request) -> Response:
        """The records as they come, one line per frame and the counts at the end; or a file once it is whole."""
        with contextlib.ExitStack() as stack:
            try:
                asked, kind = _asked(request.query_params)
                slots.check()  # before the body is read
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="asked-")))
                with job_queue.receiving(), (place / "given").open("wb") as file:
                    name = await receive(request, file, job_queue.limits.upload_mb, "video")
                stack.enter_context(slots.held())
                request_of_video = VideoRequest(**asked, upload=Upload(str(place / "given"), name))
                looks = stack.enter_context(contextlib.closing(watch(job_queue, request_of_video, place)))

                async def step() -> VideoProgress | None:
                    return await anyio.to_thread.run_sync(lambda: next(looks, None), limiter=limiter)

                first = await step()  # what is wrong with the request is wrong here
                content: AsyncIterator[str | bytes]
                fault = first.fault if first is not None else ""
                if kind != "jsonl":
                    while (look := await step()) is not None:
                        fault = look.fault
                        if await request.is_disconnected():
                            return Response(status_code=400)
                    content = _chunks(place / (TEXT if kind == "mot" else VIDEO))
                else:
                    content = _records(first, step)
            except (HTTPException, MultiPartException):
                raise
            except Exception as error:
                return refused(error)
            headers = {"x-fault": " ".join(fault.encode("ascii", "replace").decode().split())} if fault else {}
            return _Streamed(content, FORMATS[kind], stack.pop_all(), headers)


def _asked(query: QueryParams) -> tuple[dict[str, Any], str]:
    """Arguments of `VideoRequest`, and the format."""
    for name in query:
        if name not in PARAMETERS:
            raise UsageError(
                f"{name}: no such parameter; allowed are {', '.join(PARAMETERS)}{suggest(name, PARAMETERS)}"
            )
    kind = query.get("format", "jsonl")
    if kind not in FORMATS:
        raise UsageError(f"format={kind[:40]}: allowed are {', '.join(FORMATS)}")
    given = query.get("rate", "5")
    try:
        rate = float(given)
    except ValueError:
        rate = 0.0
    if not RATES[0] <= rate <= RATES[1]:
        raise UsageError(f"rate={given[:40]}: allowed are frames per second, from {RATES[0]:g} to {RATES[1]:g}")
    tracker = query.get("tracker", "bytetrack")
    if tracker == NO_TRACKER and kind == "mot":
        raise UsageError("format=mot: there are tracks only with a tracker")
    lines = read_lines("\n".join(query.getlist("line")))
    return {
        "model": query.get("model"),
        "tracker": None if tracker == NO_TRACKER else tracker,
        "rate": rate,
        "lines": lines,
    }, kind


async def _records(look: VideoProgress | None, step: Any) -> AsyncIterator[str | bytes]:
    """One line per frame; the last line has the counts, or what ended the video early."""
    end: dict[str, Any] = {}
    try:
        while look is not None:
            if look.fault:
                end["fault"] = look.fault
            else:
                yield json.dumps(look.record, ensure_ascii=False) + "\n"
            last, look = look, await step()
        if last.followed is not None:
            end = {"summary": last.followed.to_json(), **end}
    except Exception as error:
        end = {"error": status_of(error)[1]}
    if end:
        yield json.dumps(end, ensure_ascii=False) + "\n"


async def _chunks(path: Path) -> AsyncIterator[str | bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(MB):
            yield chunk
