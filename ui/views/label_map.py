"""Label maps: the image under the colors of its classes, what each covers, and the labels as a file."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.drawings import SIDE
from ui.views.base import PredictionView, drawing_component
from visionkit.drawing.colors import palette
from visionkit.drawing.label_map import OPACITY, legend, overlay
from visionkit.predictions import LabelMap


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None)
    drawn = drawing_component("jpeg")
    opacity = gr.Slider(0, 100, round(100 * OPACITY), step=5, label="Opacity of the classes, %", elem_id="vk-opacity")
    areas = gr.Dataframe(
        headers=["class", "fraction", "pixels"],
        datatype=["str", "str", "number"],
        interactive=False,
        label="What each class covers",
        elem_id="vk-areas",
    )
    file = gr.DownloadButton("Download the labels (png)", size="sm", elem_id="vk-labels-file")
    # Redrawn from what is kept of the last prediction; the network does not run again.
    # `release` does not come from the arrow keys.
    opacity.input(
        _redraw,
        [kept, opacity],
        drawn,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
    )
    return [kept, drawn, opacity, areas, file]


def _show(prediction: LabelMap, image: np.ndarray, downloads: Downloads) -> list[Any]:
    kept = _reduced(prediction, image)
    rows = [[area.name, f"{area.fraction:.1%}", area.pixels] for area in prediction.areas()]
    path = downloads.save("labels", ".png", prediction.png(palette(len(prediction.classes))))
    return [kept, _redraw(kept, 100 * OPACITY), round(100 * OPACITY), rows, path]


def _reduced(prediction: LabelMap, image: np.ndarray) -> tuple[LabelMap, np.ndarray]:
    """Both, not above `SIDE` pixels a side: labels by their nearest value."""
    from PIL import Image

    if max(prediction.size) <= SIDE:
        return prediction, image
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    shown = np.asarray(small)
    rows, columns = (
        (np.arange(after) + 0.5) * before / after
        for before, after in zip(prediction.size, shown.shape[:2], strict=True)
    )
    labels = prediction.labels[rows.astype(np.int64)][:, columns.astype(np.int64)]
    return LabelMap(prediction.classes, labels), shown


def _redraw(kept: tuple[LabelMap, np.ndarray] | None, opacity: float) -> np.ndarray | None:
    if kept is None:
        return None
    prediction, image = kept
    return legend(overlay(prediction, image, min(max(opacity / 100, 0.0), 1.0)), prediction)


VIEW = PredictionView(_build, _show, classes=lambda prediction: [area.name for area in prediction.areas()])
