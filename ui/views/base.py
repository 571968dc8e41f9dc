"""What a view is, and what the views share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import texts
from ui.downloads import Downloads
from visionkit.predictions import Prediction

SIDE = 1280
"""A drawing is not sent larger than this many pixels a side: a browser shows no more."""


@dataclass(frozen=True)
class CallOption:
    """An option of the prediction call that the page offers; choosing asks the network again.

    Attributes:
        name: As the call has it.
        label: As the page has it.
        info: What it does.
        values: To choose from, beside what the model has.
    """

    name: str
    label: str
    info: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """How a kind of prediction is shown.

    Attributes:
        build: Makes the components, inside the column that is open; called once for a page. A knob that redraws without
            running the network is wired here: a `gr.State` among the components takes what it needs from `show`.
        show: The values for these components, in their order, from a prediction and its picture (h, w, 3) uint8 RGB.
        head: A file of html for the page's head, where a view brings a script. It may be run from there alone: the page
            forbids evaluated code.
        classes: The classes that an answer names, the surest first, of which "see why" can be asked.
        option: What the page offers of the call itself.

    Both functions get the place where files to download are written.
    """

    build: Callable[[Downloads], Sequence[Any]]
    show: Callable[[Any, np.ndarray, Downloads], Sequence[Any]]
    head: Path | None = None
    classes: Callable[[Any], list[str]] | None = None
    option: CallOption | None = None


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
    return as_sent(answer.draw(picture))


def _build_plain(downloads: Downloads) -> list[Any]:
    return [drawing_component("jpeg"), gr.Markdown(elem_classes="vk-facts")]


def _show_plain(prediction: Prediction, image: np.ndarray, downloads: Downloads) -> list[Any]:
    return [drawing(prediction, image), texts.plain(prediction.text(5))]


PLAIN = View(_build_plain, _show_plain)
"""For kinds that have no view of their own: the drawing and the text."""


def as_sent(picture: np.ndarray) -> np.ndarray:
    """A picture at the size in which drawings are sent, which is all that a redrawing needs."""
    from PIL import Image

    if max(picture.shape[:2]) <= SIDE:
        return picture
    small = Image.fromarray(picture)
    small.thumbnail((SIDE, SIDE))
    return np.asarray(small)
