"""An image made from an image: a slider between before and after, and the prediction as a file."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.views.base import PredictionView
from visionkit.drawing.image import before
from visionkit.predictions import ImagePrediction

SIDE = 2048
"""Longest side that the slider is sent; of a larger prediction its middle is shown at full detail."""


def _build(downloads: Downloads) -> list[Any]:
    slider = gr.ImageSlider(
        label="Before and after",
        format="png",  # the default is lossy, and pixels are what is compared
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_classes="vk-slider",
        max_height=720,
    )
    # The handle on the image is for a pointer alone; this one is for the keyboard too.
    where = gr.Slider(0, 100, 50, step=1, label="Where the two meet, % from the left", elem_id="vk-image-where")
    where.input(
        lambda percent: gr.update(slider_position=percent),
        where,
        slider,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-image-facts")
    return [slider, where, words, gr.DownloadButton("Download the image (png)", size="sm", elem_id="vk-image-file")]


def _show(prediction: ImagePrediction, image: np.ndarray, downloads: Downloads) -> list[Any]:
    height, width = prediction.size
    shown, part = [before(prediction, image), prediction.rgb], ""
    if max(height, width) > SIDE:
        top, left = max(0, (height - SIDE) // 2), max(0, (width - SIDE) // 2)
        shown = [np.ascontiguousarray(each[top : top + SIDE, left : left + SIDE]) for each in shown]
        part = f" · the middle {shown[0].shape[1]} × {shown[0].shape[0]} is shown, the file holds all of it"
    is_larger = prediction.scale > 1
    about = (
        f", ×{prediction.scale}; left bicubic, right the prediction" if is_larger else "; left as given, right restored"
    )
    words = f"{width} × {height} pixels{about}{part}"
    name = "enlarged" if is_larger else "restored"
    return [tuple(shown), 50, words, downloads.save(name, ".png", prediction.png())]


VIEW = PredictionView(_build, _show)
