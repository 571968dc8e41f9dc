"""Classes: bars of probabilities, and the image with them."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui import strings
from ui.downloads import Downloads
from ui.drawings import drawing
from ui.views.base import PredictionView, drawing_component
from visionkit.predictions import Classification

LABELS = 5
"""Classes that are listed."""


def _build(downloads: Downloads) -> list[Any]:
    # The drawing carries a caption over a photo; jpeg is eighty times faster to send than png.
    return [
        gr.Label(label="Prediction", show_label=False, num_top_classes=LABELS, elem_classes="vk-labels"),
        drawing_component("jpeg"),
        gr.Markdown(elem_classes="vk-facts"),
    ]


def _show(prediction: Classification, image: np.ndarray, downloads: Downloads) -> list[Any]:
    labels = {label.name: label.probability for label in prediction.top(LABELS)}
    return [labels, drawing(prediction, image), strings.plain(prediction.set_text())]


VIEW = PredictionView(_build, _show, classes=lambda prediction: [label.name for label in prediction.top(LABELS)])
