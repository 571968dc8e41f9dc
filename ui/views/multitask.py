"""The predictions of several heads: all of them on one sheet, and any one of them with the view of its kind."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.drawings import drawing
from ui.views import views
from ui.views.base import PredictionView, drawing_component
from visionkit.predictions import MultiTaskPrediction

_COUNTS: dict[str, int] = {}
"""Number of components of the view of each type that a head may give, the same on every page."""


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None)
    sheet = drawing_component("jpeg")
    choice = gr.Radio([], label="Show in detail", elem_id="vk-predictions-head")
    columns, components = [], []
    _COUNTS.clear()  # types may have come and gone since the last page was built
    for kind, view in views().items():
        if kind == MultiTaskPrediction.kind:
            continue
        with gr.Column(visible=False, elem_id=f"vk-predictions-{kind}") as column:
            group = list(view.build(downloads))
        for each in group:
            if getattr(each, "elem_id", None):
                each.elem_id = f"{each.elem_id}-of-head"  # the page has the same view for whole predictions too
        columns.append(column)
        components += group
        _COUNTS[kind] = len(group)
    inner = [*columns, *components]

    def choose(result: tuple[MultiTaskPrediction, np.ndarray] | None, name: str | None) -> list[Any]:
        return _chosen(result, name, downloads)

    choice.input(choose, [kept, choice], inner, show_progress="hidden", api_visibility="private")
    return [kept, sheet, choice, *inner]


def _show(prediction: MultiTaskPrediction, image: np.ndarray, downloads: Downloads) -> list[Any]:
    names = list(prediction)
    kept = (prediction, image)
    inner = _chosen(kept, names[0] if names else None, downloads)
    return [kept, drawing(prediction, image), gr.update(choices=names, value=names[0] if names else None), *inner]


def _chosen(result: tuple[MultiTaskPrediction, np.ndarray] | None, name: str | None, downloads: Downloads) -> list[Any]:
    """Values of all columns and their components: the column of the chosen head's kind is filled, the others hidden."""
    part = result[0].get(name) if result is not None and name else None
    kind = part.kind if part is not None else None
    columns = [gr.update(visible=each == kind) for each in _COUNTS]
    values: list[Any] = []
    for each, count in _COUNTS.items():
        if each == kind and result is not None:
            values += views()[each].show(part, result[1], downloads)
        else:
            values += [gr.update()] * count
    return [*columns, *values]


VIEW = PredictionView(_build, _show)
