"""What a view is, and what the views share."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import strings
from ui.downloads import Downloads
from ui.drawings import as_sent, drawing
from visionkit.predictions import Prediction


@dataclass(frozen=True)
class CallOption:
    """An option of the prediction call that the page offers; choosing runs the network again.

    Attributes:
        name: Name, as the call has it.
        label: Label, as the page has it.
        info: What it does.
        values: Values to choose from, beside what the model has.
    """

    name: str
    label: str
    info: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class PredictionView:
    """How a type of prediction is shown.

    Attributes:
        build: Makes the components, inside the column that is open; called once for a page. A control that redraws
            without running the network is wired here: a `gr.State` among the components takes what it needs from
            `show`.
        show: The values for these components, in their order, from a prediction and its image (h, w, 3) uint8 RGB.
        head: A file of html for the page's head, where a view brings a script. It may be run from there alone: the page
            forbids evaluated code.
        classes: The classes that a prediction names, highest-scoring first, of which "see why" can be asked.
        option: What the page offers of the call itself.

    Both functions get the place where files to download are written.
    """

    build: Callable[[Downloads], Sequence[Any]]
    show: Callable[[Any, np.ndarray, Downloads], Sequence[Any]]
    head: Path | None = None
    classes: Callable[[Any], list[str]] | None = None
    option: CallOption | None = None


def drawing_component(image_format: str, visible: bool = True) -> Any:
    """An image that can be processed and saved; png where single pixels matter, jpeg otherwise."""
    return gr.Image(
        label="Drawn",
        show_label=False,
        format=image_format,
        interactive=False,
        visible=visible,
        buttons=["download", "fullscreen"],
        elem_classes="vk-drawn",
        alt_text="The image with the prediction drawn on it",
    )


def _build_plain(downloads: Downloads) -> list[Any]:
    return [drawing_component("jpeg"), gr.Markdown(elem_classes="vk-facts")]


def _show_plain(prediction: Prediction, image: np.ndarray, downloads: Downloads) -> list[Any]:
    return [drawing(prediction, image), strings.plain(prediction.text(5))]


PLAIN = PredictionView(_build_plain, _show_plain)
"""For types that have no view of their own: the drawing and the text."""


def data_url(image: np.ndarray, form: str = "jpeg") -> str:
    """An image at the size in which drawings are sent, as the address of an `img` element.

    Args:
        image: (h, w, 3) uint8 RGB, or (h, w, 4) RGBA.
        form: `jpeg` or `png`.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(as_sent(image)).save(buffer, form, quality=85)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
