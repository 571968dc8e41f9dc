"""The page that runs a model on many images, or the images of a zip."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui import batch, strings
from ui.pages.base import Context, ToolPage, failure, model_choice, note_of
from ui.pages.further import NumberInputs
from visionkit.listing import SUFFIXES

ROWS = 200
"""Rows that are listed, at most; the archive holds all."""

LONG = 2
"""Batches and videos that run at the same time; each asks for one image's turn after the other."""


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    limits = context.limits
    attempt = strings.limits(limits.images, limits.image_mb, limits.upload_mb, limits.seconds, limits.keep_minutes)
    gr.Markdown(f"# {strings.BATCH}\n{strings.BATCH_LEAD}", elem_classes="vk-head")
    with gr.Row(equal_height=False):
        with gr.Column():
            model, note = model_choice(context, None, elem_id="vk-model")
            numbers = NumberInputs(context.model_registry, None, [model.value])
            files = gr.File(
                file_count="multiple",
                file_types=[*sorted(SUFFIXES), ".zip"],
                label=strings.BATCH_INPUT,
                height=220,
                elem_id="vk-files",
            )
            gr.Markdown(attempt, elem_classes="vk-facts")
            with gr.Row():
                start = gr.Button(strings.BATCH_RUN, variant="primary", elem_id="vk-batch-run")
                stop = gr.Button(strings.STOP, elem_id="vk-batch-stop")
        with gr.Column():
            message = gr.Markdown(strings.EMPTY, elem_id="vk-message")
            archive = gr.DownloadButton(strings.BATCH_RESULT, visible=False, elem_id="vk-archive")
            table = gr.Dataframe(
                headers=strings.BATCH_COLUMNS, interactive=False, show_label=False, wrap=True, elem_id="vk-batch-table"
            )

    def work(paths: list[str] | None, name: str | None, *values: Any) -> Iterator[tuple[Any, Any, Any]]:
        hidden = gr.update(visible=False)
        rows: list[list[str]] = []
        bad = 0
        place = Path(tempfile.mkdtemp(dir=context.scratch)) / "results.zip"
        try:
            options = numbers.options(name, values)
            for row in batch.run(context.job_queue, name, batch.uploads_of(paths), place, options):
                bad += not row.good
                if len(rows) < ROWS:
                    rows.append([row.name, f"{row.size[1]} × {row.size[0]}" if row.good else "", row.message])
                yield strings.seen(row.done, row.total, "images", bad), hidden, rows
        except Exception as error:
            yield failure(error), hidden, rows
        else:
            yield gr.skip(), gr.update(value=str(place), visible=True), gr.skip()

    private: dict[str, Any] = {"api_visibility": "private"}
    running = start.click(
        work,
        [files, model, *numbers.components],
        [message, archive, table],
        concurrency_id="long",
        concurrency_limit=LONG,
        show_progress_on=[message],
        **private,
    )
    stop.click(None, cancels=[running], **private)
    model.change(lambda name: note_of(context.model_registry, name), model, note, show_progress="hidden", **private)
    blocks = gr.context.Context.root_block
    assert blocks is not None
    numbers.wire([model], blocks.load)


PAGE = ToolPage(strings.BATCH, "batch", 20, build)
