"""Faces: the image with boxes and names, and a table of them."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui import strings
from ui.downloads import Downloads
from ui.drawings import drawing
from ui.views.base import PredictionView, drawing_component
from visionkit.predictions import Faces

COLUMNS = ["face", "name", "similarity", "width", "height"]


def _build(downloads: Downloads) -> list[Any]:
    return [
        drawing_component("jpeg"),
        gr.Markdown(elem_classes="vk-facts", elem_id="vk-faces-facts"),
        gr.Dataframe(headers=COLUMNS, show_label=False, interactive=False, elem_classes="vk-faces"),
    ]


def _show(prediction: Faces, image: np.ndarray, downloads: Downloads) -> list[Any]:
    if prediction.whole_image:
        return [drawing(prediction, image), strings.FACES_ALONE, gr.update(visible=False)]
    return [drawing(prediction, image), strings.FACES_UNNAMED, gr.update(value=rows(prediction), visible=True)]


def rows(prediction: Faces) -> list[list[str]]:
    """One row a face: number, name, similarity, width and height of its box."""
    assert prediction.similarities is not None
    return [
        [
            str(number),
            name or ("" if np.isnan(similarity) else "nobody known"),
            "" if np.isnan(similarity) else f"{similarity:.3f}",
            f"{box[2] - box[0]:.0f}",
            f"{box[3] - box[1]:.0f}",
        ]
        for number, (box, name, similarity) in enumerate(
            zip(prediction.boxes, prediction.names, prediction.similarities, strict=True), 1
        )
    ]


VIEW = PredictionView(_build, _show)
