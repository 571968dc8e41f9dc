"""The demo as a web application: the page, put into the programming interface of `ui.server.api`.

The page knows no type of prediction; `ui.views` has one view for each. The interface has two stable names, `predict`
(an image and a model's name, giving what `Prediction.to_json` gives) and `models`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from gradio.components.navbar import Navbar
from gradio.route_utils import FnIndexInferError

from ui import strings
from ui.downloads import Downloads
from ui.pages import ask, brush
from ui.pages.base import STAGE, Context
from ui.pages.tools import tool_pages
from ui.reports import Reports
from ui.server.api import BARE, Settings, served
from ui.server.error_responses import speak
from ui.server.gradio_hardening import Page, is_closed, whole_files
from ui.server.gradio_sessions import fast_sessions
from ui.server.job_queue import JobQueue
from ui.server.limits import MB
from ui.server.security_middleware import Guard
from ui.views import views, views_of
from visionkit.plugins import installed
from visionkit.registry import task_pages

SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
SECTIONS = "visionkit.sections"
"""Entry points of what the page of a task has below the prediction on one image, by the task's name."""


def application(settings: Settings, host: str = "127.0.0.1", names: Sequence[str] = ()) -> Guard:
    """The whole ASGI application, page and interface.

    Args:
        settings: Settings of the page.
        host: The address that is listened on.
        names: Further names that browsers may use.
    """
    heads = [*(view.head for view in views().values() if view.head), STAGE, brush.SCRIPT]
    heads += [page.head for page in tool_pages() if page.head]

    def add_pages(app: FastAPI, job_queue: JobQueue) -> None:
        root = settings.origin + settings.root_path
        mount(app, pages(settings, job_queue), heads, settings.limits.upload_mb * MB, root)

    return served(settings, host, names, add_pages, is_closed)


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
    speak(app, [FnIndexInferError])
    whole_files()
    fast_sessions()


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
