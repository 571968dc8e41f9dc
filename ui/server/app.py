"""The demo as a web application: the page, its programming interface, and the guard around both.

The page knows no type of prediction; `ui.views` has one view for each. The interface has two stable names, `predict`
(an image and a model's name, giving what `Prediction.to_json` gives) and `models`.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from gradio.components.navbar import Navbar

from ui import strings
from ui.data_sets import DataSets
from ui.downloads import Downloads
from ui.model_registry import ModelRegistry
from ui.pages import ask, brush, people
from ui.pages.base import STAGE, Context
from ui.pages.tools import tool_pages
from ui.reports import Reports
from ui.server.face_routes import add_face_routes
from ui.server.gradio_hardening import Page, is_closed, speak, whole_files
from ui.server.job_queue import JobQueue
from ui.server.limits import MB, Limits
from ui.server.login import Accounts, Login
from ui.server.routes import add_routes
from ui.server.security_middleware import Application, Guard, Receive, Scope, Send
from ui.server.temp_cleanup import Sweeper
from ui.server.video_routes import add_video_routes
from ui.views import views, views_of
from visionkit.plugins import installed
from visionkit.registry import task_pages

SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
BARE = {"docs_url": None, "redoc_url": None, "openapi_url": None}
"""Pages about the interface load scripts from elsewhere."""

SECTIONS = "visionkit.sections"
"""Entry points of what the page of a task has below the prediction on one image, by the task's name."""


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


def application(settings: Settings, host: str = "127.0.0.1", names: Sequence[str] = ()) -> Guard:
    """The whole ASGI application.

    Args:
        settings: Settings of the page.
        host: The address that is listened on.
        names: Further names that browsers may use.
    """
    limits = settings.limits
    job_queue = JobQueue(settings.model_registry, limits)
    blocks = pages(settings, job_queue)
    gallery = settings.gallery or settings.scratch / "gallery"
    sweeper = Sweeper(settings.scratch, 60 * limits.keep_minutes, limits.disk_mb * MB, spared=(gallery,))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        sweeper.start()
        yield
        sweeper.stop()

    app = FastAPI(**BARE, lifespan=life)  # type: ignore[arg-type]
    add_routes(app, job_queue, settings.scratch, settings.ready)
    add_face_routes(app, people.People(job_queue, gallery), settings.scratch, is_readable=settings.gallery is not None)
    add_video_routes(app, job_queue, settings.scratch)
    heads = [*(view.head for view in views().values() if view.head), STAGE, brush.SCRIPT]
    heads += [page.head for page in tool_pages() if page.head]
    mount(app, blocks, heads, limits.upload_mb * MB, settings.origin + settings.root_path)
    behind: Application = _below(settings.root_path, app) if settings.root_path else app
    if settings.accounts:
        behind = Login(behind, settings.accounts, settings.root_path)
    return Guard(behind, host, names, limits.upload_mb * MB, closed=is_closed)


def mount(app: FastAPI, blocks: Page, heads: Sequence[Path], largest: int, root: str = "") -> None:
    """Puts pages into an application, which then reports its faults in words.

    Args:
        app: The application.
        blocks: The pages.
        heads: Files with scripts and styles of the pages.
        largest: Bytes of a file that is sent.
        root: Under which address a proxy shows it.
    """
    # Gradio warns that pages cannot be rendered on the server, though nobody asks for that.
    warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        app_kwargs=dict(BARE),
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=largest,
        root_path=root or None,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme(),
        css_paths=Path(__file__).with_name("page.css"),
        head_paths=list(heads),
        favicon_path=str(Path(__file__).with_name("favicon.png")),
    )
    speak(app)
    whole_files()


def _below(root: str, application: Application) -> Application:
    """States an application the path under which a proxy shows it."""

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "root_path": root}, receive, send)

    return below


def theme() -> gr.themes.Base:
    """Calm, in light and dark, with the fonts that the visitor's system has."""
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=list(SYSTEM_FONTS),
        font_mono=list(MONO_FONTS),
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_border_width="1px",
        block_shadow="none",
        block_shadow_dark="none",
        block_label_text_weight="500",
        block_title_text_weight="500",
        # Gradio's own subdued gray has too little contrast to be read.
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
    )


def pages(settings: Settings, job_queue: JobQueue) -> Page:
    """All pages with their events: one of every model, one of each task, and those of the tools."""
    context = Context(
        job_queue,
        Downloads(settings.scratch),
        settings.scratch,
        settings.address,
        settings.gallery or settings.scratch / "gallery",
        keeps=settings.gallery is not None,
        data_sets=settings.data_sets,
        reports=Reports(settings.scratch),
        models=settings.model_registry.folder,
    )
    with Page(title=strings.TITLE, analytics_enabled=False) as blocks:
        Navbar(main_page_name=strings.HOME)
        ask.build(context, views())
        for task, page in task_pages().items():
            blocks.turn(page.title, task.replace("_", "-"))
            Navbar(main_page_name=strings.HOME)
            ask.build(context, views_of(task), task)
            for section in installed(SECTIONS).select(name=task):
                with gr.Column(elem_id=f"vk-{section.module.rpartition('.')[2]}"):
                    section.load()(context)
        for tool in tool_pages():
            blocks.turn(tool.name, tool.path)
            Navbar(main_page_name=strings.HOME)
            tool.build(context)
    # What is queued cannot be asked for past the queue; choosing an example is not queued and goes its own way.
    blocks.queue(max_size=job_queue.limits.queue, api_open=False)
    # Gradio looks for work a thousand times per second, which costs some per cent of a core while nobody asks.
    blocks._queue.sleep_when_free = 0.01
    blocks.state_session_capacity = job_queue.limits.sessions
    return blocks  # type: ignore[no-any-return]
