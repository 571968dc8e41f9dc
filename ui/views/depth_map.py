"""Depth: colours with a scale, the value under the pointer, points in space to turn, and files."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ui.downloads import Downloads
from ui.views.base import SIDE, View, drawing
from visionkit.camera import Camera, ply, point_cloud
from visionkit.predictions import DepthMap

SCRIPT = Path(__file__).with_name("depth_map.html")
"""Runs in the page: what a visitor points at and turns needs no server."""

POINTS_SIDE = 320
"""Longer side of the map that the page holds values of, and a point each."""

FIELD_OF_VIEW = 60.0
"""Degrees along the longer side, where nobody says; about a phone's or a depth camera's."""

HINT = "Point at the picture to read its depth."


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
        info="The picture does not tell it; with a wrong one the points are stretched, the depths stay.",
        elem_id="vk-depth-view",
    )
    with gr.Row():
        buttons = [
            gr.DownloadButton("Depth, 16-bit png", size="sm", elem_id="vk-depth-png"),
            gr.DownloadButton("Depth in metres, npy", size="sm", elem_id="vk-depth-npy"),
            gr.DownloadButton("Points, ply", size="sm", elem_id="vk-depth-ply"),
        ]
    kept = gr.State(None, time_to_live=3600)

    def look(state: Any, degrees: float) -> tuple[Any, Any]:
        if state is None:
            return gr.skip(), gr.skip()
        answer, picture = DepthMap(state[0]), state[1]
        return markup(answer, picture, degrees), _cloud(answer, picture, degrees, downloads)

    view.input(  # `release` would not tell of the arrow keys
        look,
        [kept, view],
        [box, buttons[2]],
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
    )
    return [box, words, view, *buttons, kept]


def _show(answer: DepthMap, picture: np.ndarray, downloads: Downloads) -> list[Any]:
    told = answer.summary()
    if told["median"] is None:
        words = "No depth is known."
    elif answer.metric:
        words = f"{told['min']:.2f} to {told['max']:.2f} m, half of it nearer than {told['median']:.2f} m"
        words += ". Metres hold for cameras like those of the training."
    else:
        words = "Relative: from near to far, with no unit."
    png = "16-bit png" + (f", one step is {answer.png_step * 1000:.3g} mm" if answer.metric else "")
    files = [
        gr.update(label=f"Depth, {png}", value=downloads.save("depth", ".png", answer.png())),
        gr.update(value=downloads.save("depth", ".npy", answer.npy())),
    ]
    if not answer.metric:
        hidden = gr.update(visible=False)
        return [markup(answer, picture, None), words, hidden, *files, hidden, None]
    values, colours = reduced(answer.values, SIDE), reduced(picture, SIDE)
    small = DepthMap(values, bounds=answer.bounds)
    cloud = gr.update(value=_cloud(small, colours, FIELD_OF_VIEW, downloads), visible=True)
    return [
        markup(answer, picture, FIELD_OF_VIEW),
        words,
        gr.update(value=FIELD_OF_VIEW, visible=True),
        *files,
        cloud,
        (values, colours),
    ]


def markup(answer: DepthMap, picture: np.ndarray, degrees: float | None) -> str:
    """What the script of the page works on: numbers and pictures of our own making, no words from data.

    Args:
        answer: Of the picture.
        picture: (h, w, 3) uint8 RGB.
        degrees: Field of view along the longer side; None shows no points in space.
    """
    drawn = drawing(answer, picture)
    small = DepthMap(reduced(answer.values, POINTS_SIDE), answer.metric, answer.bounds)
    codes = np.zeros((*small.size, 3), dtype=np.uint8)
    codes[..., 0], codes[..., 1] = small.codes >> 8, small.codes & 255
    space = ""
    if degrees is not None:
        space = (
            '<canvas tabindex="0" role="img" aria-label="Points in space; drag or use the arrow keys to turn them">'
            "</canvas><p>Drag to turn, scroll to come nearer.</p>"
        )
    facts = {"codes": _url(codes, "PNG"), "colours": _url(reduced(picture, POINTS_SIDE), "PNG")}
    facts |= {"step": repr(small.step), "most": repr(float(small.values.max()))}
    if degrees is not None:
        facts["fov"] = repr(float(degrees))
    data = " ".join(f'data-{name}="{value}"' for name, value in facts.items())
    shown = f'<img alt="Depth in colours with its scale" src="{_url(drawn, "JPEG")}"><output>{HINT}</output>'
    return f'<div class="vk-depth-box" {data}>{shown}{space}</div>'


def reduced(array: np.ndarray, side: int) -> np.ndarray:
    """Every n-th pixel, so that the longer side is at most `side`: values are never mixed with what is not known."""
    every = -(-max(array.shape[:2]) // side)
    return np.ascontiguousarray(array[every // 2 :: every, every // 2 :: every]) if every > 1 else array


def _cloud(answer: DepthMap, picture: np.ndarray, degrees: float, downloads: Downloads) -> str:
    points, colours = point_cloud(answer.values, picture, Camera.of_view(answer.size, degrees))
    return downloads.save("points", ".ply", ply(points, colours))


def _url(array: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


VIEW = View(_build, _show, SCRIPT)
