"""The page that examines a data set as `visionkit doctor` does, and shows the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import data_strings, strings
from ui.pages.base import Context, ToolPage, attempt

if TYPE_CHECKING:
    from visionkit.checkup.examination import Checkup

COUNT, MOST = 100, 5000
"""Images of each split that are read, by default and at most: the rest is for the terminal."""

PROGRESS = gr.Progress()
"""Stands for the progress of whoever asks: gradio replaces it."""


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    sets = context.data_sets
    gr.Markdown(f"# {data_strings.DOCTOR}\n{data_strings.DOCTOR_LEAD}", elem_classes="vk-head")
    with gr.Row(equal_height=True):
        data = gr.Dropdown(
            sets.choices(), value=sets.first, label=data_strings.DATA_SET, elem_id="vk-doctor-data", scale=2
        )
        count = gr.Slider(10, MOST, COUNT, step=10, label=data_strings.DOCTOR_COUNT, elem_id="vk-doctor-count")
        start = gr.Button(data_strings.DOCTOR_RUN, variant="primary", elem_id="vk-doctor-run")
    message = gr.Markdown(data_strings.DOCTOR_EMPTY, elem_id="vk-message")
    # `gr.HTML` evaluates its template as a program, which the page's policy forbids; this shows it as it is.
    report = gr.Markdown(
        visible=False, sanitize_html=False, latex_delimiters=[], container=False, elem_id="vk-doctor-report"
    )

    def examine(name: str | None, images: float, progress: Any = PROGRESS) -> tuple[Any, Any]:
        def work(check: Callable[[], None]) -> tuple[str, str]:
            from visionkit.checkup import examination
            from visionkit.checkup.html_report import page_of
            from visionkit.checkup.text_report import summary

            def seen(done: int, total: int) -> None:
                check()
                progress((done, total), unit="images")

            chosen = sets.get(name)
            with chosen.hiding():
                found: Checkup = examination.examine(chosen.browser.data, max_images=int(images), progress=seen)
                check()
                chosen.keep(found)
                return strings.plain(summary(found)), context.reports.keep(page_of(found, chosen.hidden))

        found, fault = attempt(lambda: context.job_queue.run(work, None, "doctor"))
        if found is None:
            return fault, gr.update(visible=False)
        return found[0], gr.update(value=found[1], visible=True)

    start.click(
        examine,
        [data, count],
        [message, report],
        api_visibility="private",
        concurrency_id="network",
        show_progress_on=[message],
    )


PAGE = ToolPage(data_strings.DOCTOR, "doctor", 50, build)
