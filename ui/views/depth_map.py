"""Depth: colors with a scale, the value under the pointer, points in space to turn, and files."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ui.downloads import Downloads
from ui.drawings import SIDE, drawing
from ui.views.base import PredictionView
from visionkit.camera import CameraIntrinsics, ply, point_cloud
from visionkit.predictions import DepthMap

SCRIPT = Path(__file__).with_name("depth_map.html")
"""Runs in the page: what a visitor points at and turns needs no server."""

POINTS_SIDE = 320
"""Longer side of the map that the page holds values of, and a point each."""

FIELD_OF_VIEW = 60.0
"""Degrees along the longer side, by default; about a phone's or a depth camera's."""

HINT = "Point at the image to read its depth."


def _build(downloads: Downloads) -> list[Any]:
    # `gr.HTML` evaluates its template as a program, which the page's policy forbids; this shows the markup as it is.
    box = gr.Markdown(elem_classes="vk-depth", sanitize_html=False, latex_delimiters=[])
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-depth-facts")
    view = gr.Slider(
        30,
        120,
        FIELD_OF_VIEW,
        step=1,
        label="Field of view of the camera in degrees",
        info="The image does not state it; with a wrong one the points are stretched, the depths stay.",
        elem_id="vk-depth-view",
    )
    with gr.Row():
        buttons = [
            gr.DownloadButton("Depth, 16-bit png", size="sm", elem_id="vk-depth-png"),
            gr.DownloadButton("Depth in meters, npy", size="sm", elem_id="vk-depth-npy"),
            gr.DownloadButton("Points, ply", size="sm", elem_id="vk-depth-ply"),
        ]
    kept = gr.State(None, time_to_live=3600)

    def look(state: Any, degrees: float) -> tuple[Any, Any]:
        if state is None:
            return gr.skip(), gr.skip()
        prediction, image = DepthMap(state[0]), state[1]
        return markup(prediction, image, degrees), cloud(prediction, image, degrees, downloads)

    view.input(  # `release` does not come from the arrow keys
        look,
        [kept, view],
        [box, buttons[2]],
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )
    return [box, words, view, *buttons, kept]


def _show(prediction: DepthMap, image: np.ndarray, downloads: Downloads) -> list[Any]:
    facts = prediction.summary()
    if facts["median"] is None:
        words = "No depth is known."
    elif prediction.metric:
        words = f"{facts['min']:.2f} to {facts['max']:.2f} m, half of it nearer than {facts['median']:.2f} m"
        words += ". Meters hold for cameras like those of the training."
    else:
        words = "Relative: from near to far, with no unit."
    png = "16-bit png" + (f", one step is {prediction.png_step * 1000:.3g} mm" if prediction.metric else "")
    files = [
        gr.update(label=f"Depth, {png}", value=downloads.save("depth", ".png", prediction.png())),
        gr.update(value=downloads.save("depth", ".npy", prediction.npy())),
    ]
    if not prediction.metric:
        hidden = gr.update(visible=False)
        return [markup(prediction, image, None), words, hidden, *files, hidden, None]
    values, colors = reduced(prediction.values, SIDE), reduced(image, SIDE)
    small = DepthMap(values, bounds=prediction.bounds)
    points = gr.update(value=cloud(small, colors, FIELD_OF_VIEW, downloads), visible=True)
    return [
        markup(prediction, image, FIELD_OF_VIEW),
        words,
        gr.update(value=FIELD_OF_VIEW, visible=True),
        *files,
        points,
        (values, colors),
    ]


def markup(prediction: DepthMap, image: np.ndarray, degrees: float | None) -> str:
    """What the script of the page works on: numbers and images of our own making, no words from data.

    Args:
        prediction: Prediction of the image.
        image: (h, w, 3) uint8 RGB.
        degrees: Field of view along the longer side; None shows no points in space.
    """
    drawn = drawing(prediction, image)
    small = DepthMap(reduced(prediction.values, POINTS_SIDE), prediction.metric, prediction.bounds)
    codes = np.zeros((*small.size, 3), dtype=np.uint8)
    codes[..., 0], codes[..., 1] = small.codes >> 8, small.codes & 255
    space = ""
    if degrees is not None:
        space = (
            '<canvas tabindex="0" role="img" aria-label="Points in space; drag or use the arrow keys to turn them">'
            "</canvas><p>Drag to turn, scroll to come nearer.</p>"
        )
    facts = {"codes": _url(codes, "PNG"), "colors": _url(reduced(image, POINTS_SIDE), "PNG")}
    facts |= {"step": repr(small.step), "most": repr(float(small.values.max()))}
    if degrees is not None:
        facts["fov"] = repr(float(degrees))
    data = " ".join(f'data-{name}="{value}"' for name, value in facts.items())
    shown = f'<img alt="Depth in colors with its scale" src="{_url(drawn, "JPEG")}"><output>{HINT}</output>'
    return f'<div class="vk-depth-box" {data}>{shown}{space}</div>'


def reduced(array: np.ndarray, side: int) -> np.ndarray:
    """Every n-th pixel, so that the longer side is at most `side`: values are never mixed with what is not known."""
    every = -(-max(array.shape[:2]) // side)
    return np.ascontiguousarray(array[every // 2 :: every, every // 2 :: every]) if every > 1 else array


def cloud(prediction: DepthMap, image: np.ndarray, degrees: float, downloads: Downloads) -> str:
    """The path of a `.ply` file with the points of what is known.

    Args:
        prediction: Metric depth.
        image: (h, w, 3) uint8 RGB of the same size.
        degrees: Field of view along the longer side.
        downloads: Where the file is written.
    """
    points, colors = point_cloud(prediction.values, image, CameraIntrinsics.of_view(prediction.size, degrees))
    return downloads.save("points", ".ply", ply(points, colors))


def _url(array: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


VIEW = PredictionView(_build, _show, SCRIPT)
