"""A picture made larger: a slider between bicubic and the answer, and the answer as a file."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.views.base import View
from visionkit.drawing.picture import before
from visionkit.predictions import Picture

SIDE = 2048
"""Longest side that the slider is sent; of a larger answer its middle is shown at full detail."""


def _build(downloads: Downloads) -> list[Any]:
    slider = gr.ImageSlider(
        label="Before: bicubic. After: the answer",
        format="png",  # the default is lossy, and pixels are what is compared
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_classes="vk-slider",
        max_height=720,
    )
    # The handle on the picture is for a pointer alone; this one is for the keyboard too.
    where = gr.Slider(0, 100, 50, step=1, label="Where the two meet, % from the left", elem_id="vk-picture-where")
    where.input(
        lambda percent: gr.update(slider_position=percent),
        where,
        slider,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-picture-facts")
    return [slider, where, words, gr.DownloadButton("Download the picture (png)", size="sm", elem_id="vk-picture-file")]


def _show(answer: Picture, picture: np.ndarray, downloads: Downloads) -> list[Any]:
    height, width = answer.size
    shown, part = [before(answer, picture), answer.rgb], ""
    if max(height, width) > SIDE:
        top, left = max(0, (height - SIDE) // 2), max(0, (width - SIDE) // 2)
        shown = [np.ascontiguousarray(each[top : top + SIDE, left : left + SIDE]) for each in shown]
        part = f" · the middle {shown[0].shape[1]} × {shown[0].shape[0]} is shown, the file holds all of it"
    words = f"{width} × {height} pixels, ×{answer.scale}{part}"
    return [tuple(shown), 50, words, downloads.save("enlarged", ".png", answer.png())]


VIEW = View(_build, _show)
