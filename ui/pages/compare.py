"""The page that shows two models on the same image, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui import strings
from ui.drawings import drawing
from ui.inference import Upload
from ui.pages.base import Context, ToolPage, attempt, image_input, model_choice, note_of
from ui.pages.examples import examples
from ui.pages.further import NumberInputs
from ui.views import drawing_component


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    job_queue = context.job_queue
    first, other = _pair(context)
    gr.Markdown(f"# {strings.COMPARE}\n{strings.COMPARE_LEAD}", elem_classes="vk-head")
    with gr.Row(elem_classes="vk-compare"):
        with gr.Column():
            image = image_input(elem_id="vk-input")
            numbers = NumberInputs(context.model_registry, None, [first, other])
        with gr.Column():
            gr.Examples(
                examples(context.scratch, context.model_registry.entries()),
                image,
                label=strings.EXAMPLES,
                cache_examples=False,
            )
    sides = []
    with gr.Row(elem_classes="vk-compare"):
        for number, (label, name) in enumerate(((strings.COMPARE_ONE, first), (strings.COMPARE_OTHER, other)), 1):
            with gr.Column(elem_id=f"vk-side-{number}"):
                model, note = model_choice(context, None, label, value=name, elem_id=f"vk-model-{number}")
                drawn = drawing_component("jpeg")
                words = gr.Markdown(strings.EMPTY, elem_id=f"vk-words-{number}")
                facts = gr.Markdown(elem_classes="vk-facts")
            sides.append((model, note, drawn, words, facts))

    def result(upload: Upload, name: str | None, values: Sequence[Any]) -> tuple[Any, str, str]:
        found = job_queue.ask(name, upload, options=numbers.options(name, values))
        height, width = found.image.shape[:2]
        times = strings.facts(found.decode, found.network, found.total, height, width)
        return drawing(found.prediction, found.image), strings.plain(found.prediction.text(5)), times

    def show(upload: Upload | None, name: str | None, *values: Any) -> tuple[Any, str, str]:
        if upload is None:
            return None, strings.EMPTY, ""
        found, fault = attempt(result, upload, name, values)
        return (None, fault, "") if found is None else found

    for model, note, drawn, words, facts in sides:
        gr.on(
            [image.change, model.change, *(each.release for each in numbers.components)],
            show,
            [image, model, *numbers.components],
            [drawn, words, facts],
            trigger_mode="always_last",
            concurrency_id="network",
            concurrency_limit=job_queue.limits.concurrency,
            api_visibility="private",
        )
        model.change(
            lambda name: note_of(context.model_registry, name),
            model,
            note,
            show_progress="hidden",
            api_visibility="private",
        )

    blocks = gr.context.Context.root_block
    assert blocks is not None
    numbers.wire([side[0] for side in sides], blocks.load)


def _pair(context: Context) -> tuple[str | None, str | None]:
    """Two models to begin with: of one task, where a task has two."""
    usable = [entry for entry in context.model_registry.entries() if not entry.fault]
    for entry in usable:
        same = [each.name for each in usable if each.task == entry.task and each.name != entry.name]
        if same:
            return entry.name, same[0]
    names: list[str | None] = [entry.name for entry in usable]
    return (names or [None])[0], (names or [None])[-1]


PAGE = ToolPage(strings.COMPARE, "compare", 10, build)
