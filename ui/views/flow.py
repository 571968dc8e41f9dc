"""Optical flow: colors by the wheel, how long the longest color is, and the field as files."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.drawings import as_sent
from ui.views.base import PredictionView, drawing_component
from visionkit.drawing.base import enlarged
from visionkit.drawing.flow import colors, legend
from visionkit.predictions import FlowField

LONGEST = 200.0
"""Pixels; the most that the slider offers where the motion itself is not longer."""


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None, time_to_live=3600)
    drawn = drawing_component("png")
    reach = gr.Slider(
        0.1,
        LONGEST,
        step=0.1,
        label="Motion of the wheel's rim in pixels",
        info="A direction has a color, a longer motion is more saturated; what is longer than the rim is darker.",
        elem_id="vk-flow-reach",
    )
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-flow-facts")
    with gr.Row():
        buttons = [
            gr.DownloadButton("Flow, .flo", size="sm", elem_id="vk-flow-flo"),
            gr.DownloadButton("Flow, 16-bit png", size="sm", elem_id="vk-flow-png"),
        ]
    reach.input(  # `release` does not come from the arrow keys
        _redraw,
        [kept, reach],
        drawn,
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )
    return [kept, drawn, reach, words, *buttons]


def _show(prediction: FlowField, image: np.ndarray, downloads: Downloads) -> list[Any]:
    reach = max(round(prediction.reach, 1), 0.1)
    every = -(-max(prediction.size) // 1280)  # never mixed with what is not known
    small = FlowField(prediction.values[:, ::every, ::every], prediction.known[::every, ::every])
    return [
        small,
        _redraw(small, reach),
        gr.update(value=reach, maximum=max(LONGEST, reach)),
        f"{prediction.text()}.",
        downloads.save("flow", ".flo", prediction.flo()),
        downloads.save("flow", ".png", prediction.png()),
    ]


def _redraw(kept: FlowField | None, reach: float) -> np.ndarray | None:
    if kept is None:
        return None
    shown = FlowField(kept.values, kept.valid, max(reach, 0.1))
    return as_sent(legend(enlarged(colors(shown)), shown.reach))


VIEW = PredictionView(_build, _show)
