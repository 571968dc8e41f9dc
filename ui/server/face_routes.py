"""Routes for faces, for programs: where they are in an image, and who they are by the gallery of the server.

curl --data-binary @photo.jpg 'http://127.0.0.1:7860/api/identify'
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from ui.inference import Upload
from ui.operating_point import FAR, card_curve, operating_point
from ui.server.routes import receive, refused
from visionkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from ui.people import People
    from visionkit.predictions import Faces

FIND = ("model", "drawn")
IDENTIFY = ("model", "drawn", "crop", "far", "threshold")


class Known(NamedTuple):
    """The faces of an image and what else is stated of them.

    Attributes:
        faces: Faces in pixels of the image.
        pixels: (h, w, 3) uint8 RGB, the image.
        facts: Further entries of the json.
    """

    faces: Faces
    pixels: np.ndarray
    facts: dict[str, Any]


def add_face_routes(app: FastAPI, people: People, folder: Path, is_readable: bool) -> None:
    """Adds the routes.

    Args:
        app: The application that gets the routes.
        people: The face model and the gallery.
        folder: Where images lie while a request runs.
        is_readable: Whether who started the server gave it the gallery. Who was enrolled on its page alone is named to
            no program.
    """
    limits = people.job_queue.limits
    limiter = anyio.CapacityLimiter(limits.queue + limits.concurrency + 1)

    async def respond(
        request: Request, allowed: tuple[str, ...], work: Callable[[Upload, Mapping[str, str]], Known]
    ) -> Response:
        asked = dict(request.query_params)
        try:
            if unknown := sorted(set(asked) - set(allowed)):
                raise UsageError(f"{', '.join(unknown)}: no such parameter; allowed are {', '.join(allowed)}")
            is_drawn = _switch(asked, "drawn")
            with tempfile.NamedTemporaryFile(dir=folder, prefix="asked-") as file:
                with people.job_queue.receiving():
                    name = await receive(request, file, limits.image_mb)
                upload = Upload(file.name, name)
                known = await anyio.to_thread.run_sync(lambda: work(upload, asked), limiter=limiter)
            if not is_drawn:
                return JSONResponse({**known.faces.to_json(), **known.facts})
            drawn = await anyio.to_thread.run_sync(lambda: _drawn(known), limiter=limiter)
        except (HTTPException, MultiPartException):
            raise
        except Exception as error:
            return refused(error)
        return Response(drawn, media_type="image/jpeg")

    @app.post("/api/find")
    async def find(request: Request) -> Response:
        """The faces of an image, none being a result too."""
        return await respond(request, FIND, lambda upload, asked: Known(*people.find(upload, asked.get("model")), {}))

    @app.post("/api/identify")
    async def identify(request: Request) -> Response:
        """The faces of an image with the names of those who are enrolled."""

        def work(upload: Upload, asked: Mapping[str, str]) -> Known:
            if not is_readable:
                raise UsageError("this server was started without a gallery; `visionkit serve --gallery DIR` gives one")
            if not people.listed():
                raise UsageError("nobody is enrolled in the server's gallery; enrol people with `visionkit gallery`")
            model = asked.get("model")
            entry = people.entry(model)
            threshold = _number(asked, "threshold") if "threshold" in asked else None
            far = _number(asked, "far") if "far" in asked else FAR
            curve = card_curve(entry.card)
            if threshold is None and not curve:
                raise UsageError(f"{entry.name}: no ROC in its model card to read a threshold from; give threshold=0.5")
            point = operating_point(curve, far, threshold)
            faces, pixels = people.name(upload, _switch(asked, "crop"), point.threshold, model)
            return Known(faces, pixels, {"threshold": point.threshold})

        return await respond(request, IDENTIFY, work)


def _switch(asked: Mapping[str, str], name: str) -> bool:
    value = asked.get(name, "").lower()
    if value not in ("", "0", "1", "false", "true"):
        raise UsageError(f"{name}={value[:40]}: allowed are 0 and 1")
    return value in ("1", "true")


def _number(asked: Mapping[str, str], name: str) -> float:
    try:
        return float(asked[name])
    except ValueError:
        raise UsageError(f"{name}={asked[name][:40]}: not a number") from None


def _drawn(known: Known) -> bytes:
    from visionkit.drawing import jpeg

    return jpeg(known.faces.draw(known.pixels))
