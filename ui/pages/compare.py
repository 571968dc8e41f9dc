"""The page that shows two models on the same picture, side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import texts
from ui.answering import Upload
from ui.pages.base import Context, model_choice, note_of, picture_input, told
from ui.pages.examples import examples
from ui.views import drawing, drawing_component


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    desk = context.desk
    first, other = _pair(context)
    gr.Markdown(f"# {texts.COMPARE}\n{texts.COMPARE_LEAD}", elem_classes="vk-head")
    with gr.Row(elem_classes="vk-compare"):
        with gr.Column():
            picture = picture_input(elem_id="vk-input")
        with gr.Column():
            gr.Examples(
                examples(context.scratch, context.catalogue.entries()),
                picture,
                label=texts.EXAMPLES,
                cache_examples=False,
            )
    sides = []
    with gr.Row(elem_classes="vk-compare"):
        for number, (label, name) in enumerate(((texts.COMPARE_ONE, first), (texts.COMPARE_OTHER, other)), 1):
            with gr.Column(elem_id=f"vk-side-{number}"):
                model, note = model_choice(context, None, label, value=name, elem_id=f"vk-model-{number}")
                drawn = drawing_component("jpeg")
                words = gr.Markdown(texts.EMPTY, elem_id=f"vk-words-{number}")
                facts = gr.Markdown(elem_classes="vk-facts")
            sides.append((model, note, drawn, words, facts))

    def answered(upload: Upload, name: str | None) -> tuple[Any, str, str]:
        found = desk.ask(name, upload)
        height, width = found.picture.shape[:2]
        times = texts.facts(found.decode, found.network, found.total, height, width)
        return drawing(found.prediction, found.picture), texts.plain(found.prediction.text(5)), times

    def show(upload: Upload | None, name: str | None) -> tuple[Any, str, str]:
        if upload is None:
            return None, texts.EMPTY, ""
        found, fault = told(answered, upload, name)
        return (None, fault, "") if found is None else found

    for model, note, drawn, words, facts in sides:
        gr.on(
            [picture.change, model.change],
            show,
            [picture, model],
            [drawn, words, facts],
            trigger_mode="always_last",
            concurrency_id="network",
            concurrency_limit=desk.limits.concurrency,
            api_visibility="private",
        )
        model.change(
            lambda name: note_of(context.catalogue, name), model, note, show_progress="hidden", api_visibility="private"
        )


def _pair(context: Context) -> tuple[str | None, str | None]:
    """Two models to begin with: of one task, where a task has two."""
    usable = [entry for entry in context.catalogue.entries() if not entry.fault]
    for entry in usable:
        same = [each.name for each in usable if each.task == entry.task and each.name != entry.name]
        if same:
            return entry.name, same[0]
    names: list[str | None] = [entry.name for entry in usable]
    return (names or [None])[0], (names or [None])[-1]
