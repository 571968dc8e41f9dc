"""One view for each kind of prediction: which components show it, and what goes into them.

This is the only place of the demo that knows kinds of predictions. A new kind is one `View` in `VIEWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from visionkit.predictions import Classification, Prediction

LABELS = 5
"""Classes that are listed."""

SIDE = 1280
"""A drawing is not sent larger than this many pixels a side: a browser shows no more."""


@dataclass(frozen=True)
class View:
    """How a kind of prediction is shown.

    Attributes:
        build: Makes the components, inside the column that is open; called once for a page.
        show: The values for these components, in their order, from a prediction and its picture (h, w, 3) uint8 RGB.
    """

    build: Callable[[], Sequence[Any]]
    show: Callable[[Any, np.ndarray], Sequence[Any]]


def _build_classification() -> list[Any]:
    # The drawing carries a caption over a photo; jpeg is eighty times faster to send than png.
    return [
        gr.Label(label="Answer", show_label=False, num_top_classes=LABELS, elem_classes="vk-labels"),
        drawing_component("jpeg"),
    ]


def _show_classification(answer: Classification, picture: np.ndarray) -> list[Any]:
    labels = {label.name: label.probability for label in answer.top(LABELS)}
    return [labels, drawing(answer, picture)]


def drawing_component(image_format: str) -> Any:
    """A picture that can be looked at and saved; png where single pixels matter, jpeg otherwise."""
    return gr.Image(
        label="Drawn",
        show_label=False,
        format=image_format,
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_classes="vk-drawn",
        alt_text="The picture with the answer drawn on it",
    )


def drawing(answer: Prediction, picture: np.ndarray) -> np.ndarray:
    """The picture with the answer drawn on it, (h, w, 3) uint8 RGB, not above `SIDE` pixels a side."""
    from PIL import Image

    from visionkit.drawing import draw

    drawn = draw(answer, picture)
    if max(drawn.shape[:2]) <= SIDE:
        return drawn
    small = Image.fromarray(drawn)
    small.thumbnail((SIDE, SIDE))
    return np.asarray(small)


VIEWS: dict[str, View] = {
    Classification.kind: View(_build_classification, _show_classification),
}
