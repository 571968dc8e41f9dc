"""Disparity: colors with a scale in pixels, and the depth that it is for a focal length and a distance of cameras."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.drawings import SIDE, drawing
from ui.views.base import PredictionView, drawing_component
from ui.views.depth_map import FIELD_OF_VIEW, SCRIPT, cloud, markup, reduced
from visionkit.camera import CameraIntrinsics
from visionkit.predictions import DepthMap, DisparityMap

BASELINE = 0.1
"""Meters between the cameras, by default."""


def _build(downloads: Downloads) -> list[Any]:
    drawn = drawing_component("png")
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-disparity-facts")
    with gr.Row():
        view = gr.Slider(
            *(10, 120, FIELD_OF_VIEW),
            step=1,
            label="Field of view of the camera in degrees",
            info="States the focal length; the image does not.",
            elem_id="vk-disparity-view",
        )
        baseline = gr.Slider(
            *(0.01, 2.0, BASELINE),
            step=0.01,
            label="Distance between the two cameras in meters",
            info="Depth is focal length times this distance over disparity.",
            elem_id="vk-disparity-baseline",
        )
    # `gr.HTML` evaluates its template as a program, which the page's policy forbids; this shows the markup as it is.
    box = gr.Markdown(elem_classes="vk-depth", sanitize_html=False, latex_delimiters=[])
    with gr.Row():
        buttons = [
            gr.DownloadButton("Disparity, 16-bit png", size="sm", elem_id="vk-disparity-png"),
            gr.DownloadButton("Disparity in pixels, pfm", size="sm", elem_id="vk-disparity-pfm"),
            gr.DownloadButton("Points, ply", size="sm", elem_id="vk-disparity-ply"),
        ]
    kept = gr.State(None, time_to_live=3600)

    def look(state: Any, degrees: float, meters: float) -> tuple[Any, Any]:
        if state is None:
            return gr.skip(), gr.skip()
        values, image, size = state
        return _in_space(values, image, size, degrees, meters, downloads)

    for control in (view, baseline):
        control.input(
            look,
            [kept, view, baseline],
            [box, buttons[2]],
            api_visibility="private",
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return [drawn, words, view, baseline, box, *buttons, kept]


def _show(prediction: DisparityMap, image: np.ndarray, downloads: Downloads) -> list[Any]:
    # Every n-th pixel of the map keeps its disparity, so the width that these are pixels of stays the file's.
    kept = reduced(prediction.values, SIDE), reduced(image, SIDE), prediction.size
    box, points = _in_space(*kept, FIELD_OF_VIEW, BASELINE, downloads)
    return [
        drawing(prediction, image),
        f"{prediction.text()}.",
        gr.update(value=FIELD_OF_VIEW),
        gr.update(value=BASELINE),
        box,
        downloads.save("disparity", ".png", prediction.png()),
        downloads.save("disparity", ".pfm", prediction.pfm()),
        points,
        kept,
    ]


def depth_of(values: np.ndarray, size: tuple[int, int], degrees: float, meters: float) -> DepthMap:
    """The depth of a map of every n-th pixel.

    Args:
        values: (h, w) float32, disparity in pixels of the file.
        size: Height and width of the file.
        degrees: Field of view along the longer side.
        meters: Distance between the cameras.
    """
    return DisparityMap(values).depth(CameraIntrinsics.of_view(size, degrees), meters)


def _in_space(
    values: np.ndarray, image: np.ndarray, size: tuple[int, int], degrees: float, meters: float, downloads: Downloads
) -> tuple[str, str]:
    """The markup of depth and points, and the file of points."""
    depth = depth_of(values, size, degrees, meters)
    return markup(depth, image, degrees), cloud(depth, image, degrees, downloads)


VIEW = PredictionView(_build, _show, SCRIPT)
