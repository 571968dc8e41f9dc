"""The programming interface as a web application, with the guard around it, and without gradio.

`visionkit serve --api-only` serves it as it is; the demo puts its pages into it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from ui import strings
from ui.data_sets import DataSets
from ui.model_registry import ModelRegistry
from ui.people import People
from ui.server.error_responses import speak
from ui.server.face_routes import add_face_routes
from ui.server.job_queue import JobQueue
from ui.server.limits import MB, Limits
from ui.server.login import Accounts, Login
from ui.server.routes import add_routes
from ui.server.security_middleware import Application, Guard, Receive, Scope, Send
from ui.server.temp_cleanup import Sweeper
from ui.server.video_routes import add_video_routes

BARE = {"docs_url": None, "redoc_url": None, "openapi_url": None}
"""Pages about the interface load scripts from elsewhere."""


@dataclass(frozen=True)
class Settings:
    """What the page is made for.

    Attributes:
        model_registry: The models.
        address: Address of this server, for the text on how to use it from a program.
        scratch: A folder for files that visitors download.
        gallery: Where people are kept; forgotten with the server by default.
        limits: What visitors may ask.
        accounts: Who may log in; everybody may use the page by default.
        root_path: Under which path a proxy shows this server: "/demo".
        origin: Address of that proxy, "https://lab.example:8443"; what each request states about it by default.
        ready: Whether what is heavy is loaded.
        data_sets: Data sets that visitors can browse; drawn scenes alone by default.
    """

    model_registry: ModelRegistry
    address: str
    scratch: Path
    gallery: Path | None = None
    limits: Limits = field(default_factory=Limits)
    accounts: Accounts | None = None
    root_path: str = ""
    origin: str = ""
    ready: Callable[[], bool] = lambda: True
    data_sets: DataSets = field(default_factory=DataSets)


def api_application(settings: Settings, host: str = "127.0.0.1", names: Sequence[str] = ()) -> Guard:
    """The interface alone.

    Args:
        settings: As of the demo; its data sets are not shown.
        host: The address that is listened on.
        names: Further names that clients may use.
    """

    def add_root(app: FastAPI, job_queue: JobQueue) -> None:
        @app.get("/")
        async def root() -> JSONResponse:
            return JSONResponse({"error": strings.NO_PAGE}, 404)

        speak(app)

    return served(settings, host, names, add_root)


def served(
    settings: Settings,
    host: str,
    names: Sequence[str],
    add_more: Callable[[FastAPI, JobQueue], None],
    closed: Callable[[str], bool] = lambda path: False,
) -> Guard:
    """The interface with what is added to it, behind the login and the guard.

    Args:
        settings: Settings of the server.
        host: The address that is listened on.
        names: Further names that clients may use.
        add_more: Adds the pages.
        closed: States paths that are not served.
    """
    limits = settings.limits
    job_queue = JobQueue(settings.model_registry, limits)
    gallery = settings.gallery or settings.scratch / "gallery"
    sweeper = Sweeper(settings.scratch, 60 * limits.keep_minutes, limits.disk_mb * MB, spared=(gallery,))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        sweeper.start()
        yield
        sweeper.stop()

    app = FastAPI(**BARE, lifespan=life)  # type: ignore[arg-type]
    add_routes(app, job_queue, settings.scratch, settings.ready)
    add_face_routes(app, People(job_queue, gallery), settings.scratch, is_readable=settings.gallery is not None)
    add_video_routes(app, job_queue, settings.scratch)
    add_more(app, job_queue)
    behind: Application = _below(settings.root_path, app) if settings.root_path else app
    if settings.accounts:
        behind = Login(behind, settings.accounts, settings.root_path)
    return Guard(behind, host, names, limits.upload_mb * MB, closed=closed)


def _below(root: str, application: Application) -> Application:
    """States an application the path under which a proxy shows it."""

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "root_path": root}, receive, send)

    return below
