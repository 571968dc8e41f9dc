"""The demo's part for people: enrol, identify in a photo, compare two images, see and forget who is there."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import strings
from ui.drawings import drawing
from ui.operating_point import FAR
from ui.pages.base import Context, attempt, image_input
from ui.people import People
from ui.views.base import drawing_component
from ui.views.faces import COLUMNS, rows


def build(context: Context) -> None:
    """Makes the components and their events inside the block that is open."""
    people = People(context.job_queue, context.gallery)

    def image(label: str) -> Any:
        return image_input(label, 240, sources=["upload", "webcam"], placeholder=None)

    gr.Markdown(f"## {strings.PEOPLE}")
    gr.Markdown(strings.PEOPLE_PRIVACY + (strings.PEOPLE_KEPT if context.keeps else strings.PEOPLE_FORGOTTEN))
    crop = gr.Checkbox(False, label=strings.PEOPLE_CROP)
    far = gr.Number(FAR, label=strings.PEOPLE_FAR, minimum=0.0001, maximum=0.5, step=0.001)
    message = gr.Markdown(elem_id="vk-people-message")
    with gr.Tabs():
        with gr.Tab(strings.PEOPLE_ENROL), gr.Row():
            face = image(strings.PEOPLE_ONE)
            with gr.Column():
                name = gr.Textbox(label=strings.PEOPLE_NAME, max_length=80, elem_id="vk-people-name")
                which = gr.Number(None, label=strings.PEOPLE_WHICH, precision=0, minimum=0)
                add = gr.Checkbox(False, label=strings.PEOPLE_ADD)
                enrol = gr.Button(strings.PEOPLE_ENROL, variant="primary", elem_id="vk-people-enrol")
        with gr.Tab(strings.PEOPLE_IDENTIFY):
            group = image(strings.PEOPLE_GROUP)
            identify = gr.Button(strings.PEOPLE_IDENTIFY, variant="primary")
            drawn = drawing_component("jpeg")
            table = gr.Dataframe(headers=COLUMNS, show_label=False, interactive=False)
        with gr.Tab(strings.PEOPLE_VERIFY):
            with gr.Row():
                first, second = image(strings.PEOPLE_ONE), image(strings.PEOPLE_OTHER)
            verify = gr.Button(strings.PEOPLE_VERIFY, variant="primary")
        with gr.Tab(strings.PEOPLE_LIST) as page:
            known = gr.Dataframe(headers=["name", "images"], show_label=False, interactive=False)
            chosen = gr.Dropdown([], label=strings.PEOPLE_WHO, elem_id="vk-people-who")
            remove = gr.Button(strings.PEOPLE_REMOVE, variant="stop", elem_id="vk-people-remove")

    def listed() -> tuple[Any, Any]:
        found, _ = attempt(people.listed)
        names = [row[0] for row in found or []]
        return gr.update(value=found or []), gr.update(choices=names, value=None)

    def on_enrol(*given: Any) -> tuple[Any, ...]:
        prediction, fault = attempt(people.enrol, *given)
        return (fault or prediction, *listed())

    def on_identify(*given: Any) -> tuple[Any, ...]:
        prediction, fault = attempt(people.identify, *given)
        if prediction is None:
            return fault, None, []
        faces, pixels, message = prediction
        return message, drawing(faces, pixels), rows(faces)

    def on_verify(*given: Any) -> str:
        prediction, fault = attempt(people.verify, *given)
        return str(fault or prediction)

    def on_remove(name: str | None) -> tuple[Any, ...]:
        prediction, fault = attempt(people.remove, name)
        return (fault or prediction, *listed())

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network"}
    enrol.click(on_enrol, [face, name, crop, which, add], [message, known, chosen], **private)
    identify.click(on_identify, [group, crop, far], [message, drawn, table], **private)
    verify.click(on_verify, [first, second, crop, far], message, **private)
    remove.click(on_remove, chosen, [message, known, chosen], **private)
    page.select(listed, None, [known, chosen], **private)
