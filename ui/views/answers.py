"""The answers of several heads: all of them on one sheet, and any one of them with the view of its kind."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.views import views
from ui.views.base import View, drawing, drawing_component
from visionkit.predictions import Answers

_COUNTS: dict[str, int] = {}
"""Number of components of the view of each kind that a head may give, the same on every page."""


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None)
    sheet = drawing_component("jpeg")
    choice = gr.Radio([], label="Look closer at", elem_id="vk-answers-head")
    columns, components = [], []
    for kind, view in views().items():
        if kind == Answers.kind:
            continue
        with gr.Column(visible=False, elem_id=f"vk-answers-{kind}") as column:
            group = list(view.build(downloads))
        for each in group:
            if getattr(each, "elem_id", None):
                each.elem_id = f"{each.elem_id}-of-head"  # the page has the same view for whole answers too
        columns.append(column)
        components += group
        _COUNTS[kind] = len(group)
    inner = [*columns, *components]

    def choose(answered: tuple[Answers, np.ndarray] | None, name: str | None) -> list[Any]:
        return _chosen(answered, name, downloads)

    choice.input(choose, [kept, choice], inner, show_progress="hidden", api_visibility="private")
    return [kept, sheet, choice, *inner]


def _show(answer: Answers, picture: np.ndarray, downloads: Downloads) -> list[Any]:
    names = list(answer)
    kept = (answer, picture)
    inner = _chosen(kept, names[0] if names else None, downloads)
    return [kept, drawing(answer, picture), gr.update(choices=names, value=names[0] if names else None), *inner]


def _chosen(answered: tuple[Answers, np.ndarray] | None, name: str | None, downloads: Downloads) -> list[Any]:
    """Values of all columns and their components: the column of the chosen head's kind is filled, the others hidden."""
    part = answered[0].get(name) if answered is not None and name else None
    kind = part.kind if part is not None else None
    columns = [gr.update(visible=each == kind) for each in _COUNTS]
    values: list[Any] = []
    for each, count in _COUNTS.items():
        if each == kind and answered is not None:
            values += views()[each].show(part, answered[1], downloads)
        else:
            values += [gr.update()] * count
    return [*columns, *values]


VIEW = View(_build, _show)
