"""The brush: a mask is painted on the image that a model is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ui import strings
from ui.inference import Upload, opened
from ui.pages.base import ImageInput, attempt, image_input
from ui.server.limits import Limits
from ui.strokes import mark_of, paint, read_strokes
from ui.views.base import data_url
from visionkit.images import ImageSource
from visionkit.mask_files import read_mask

SCRIPT = Path(__file__).with_name("brush.html")
"""Runs in the page: strokes on the image, the size of the brush, and what takes them back."""

COLOR = (230, 0, 90)
"""Of what is painted; the script has the same."""


class Brush:
    """The places on a page where a mask is painted or given, made in the column that is open.

    Args:
        name: Name of the input.
        label: What the page calls it.
        limits: What an image may be.
        visible: Whether the model that is chosen at first takes it.
    """

    def __init__(self, name: str, label: str, limits: Limits, visible: bool) -> None:
        self._limits = limits
        self.column = gr.Column(visible=visible, elem_id=f"vk-brush-{name}")
        with self.column:
            self.stage = gr.Markdown(
                visible=False, sanitize_html=False, latex_delimiters=[], container=False, elem_classes="vk-painting"
            )
            # The script writes into it; what is not there could not be written into.
            self.strokes = gr.Textbox("", show_label=False, container=False, elem_classes="vk-strokes vk-hidden")
            self.file: ImageInput = image_input(
                label=strings.mask_file(label), height=150, sources=["upload", "clipboard"], elem_id=f"vk-input-{name}"
            )

    def mask(self, image: Upload, strokes: str | None, file: Upload | None) -> ImageSource | None:
        """What is painted on the image, over the mask that was given as a file; None where nothing is.

        Raises:
            DataError: No image, or a mask of another size.
            UsageError: Strokes that cannot be read.
        """
        from visionkit.preprocess import require_one_size  # torch comes with it

        made = read_strokes(strokes, mark_of(image))
        if not made and file is None:
            return None
        size = opened(image, self._limits).size
        base = np.zeros(size, np.uint8)
        if file is not None:
            given = opened(file, self._limits)
            require_one_size(file.name, given.size, size)
            base = read_mask(given).astype(np.uint8) * 255
        painted = paint(made, base)
        return ImageSource(painted, "mask") if painted.any() else None

    def show(self, image: Upload | None, file: Upload | None) -> Any:
        """The image to paint on, as soon as there is one that can be read."""
        markup, _ = attempt(self._markup, image, file) if image is not None else (None, "")
        return gr.update(visible=markup is not None, value=markup or "")

    def _markup(self, image: Upload, file: Upload | None) -> str:
        source = opened(image, self._limits)
        (height, width), mask = source.size, ""
        if file is not None and (given := opened(file, self._limits)).size == source.size:
            ink = np.full((height, width, 4), (*COLOR, 255), np.uint8)
            ink[:, :, 3] = read_mask(given)
            ink[:, :, 3] *= 255
            mask = f'<img alt="" data-part="given" src="{data_url(ink, "png")}">'
        return _MARKUP.format(
            height=height,
            width=width,
            mark=mark_of(image),
            image=data_url(source.read()),
            mask=mask,
            canvas=strings.BRUSH_CANVAS,
            size=strings.BRUSH_SIZE,
            paint=strings.BRUSH_PAINT,
            erase=strings.BRUSH_ERASE,
            undo=strings.BRUSH_UNDO,
            clear=strings.BRUSH_CLEAR,
        )


_MARKUP = (
    '<div class="vk-brush" data-height="{height}" data-width="{width}" data-of="{mark}"><div class="vk-brush-stage">'
    '<img alt="" data-part="image" src="{image}">{mask}'
    '<canvas tabindex="0" role="img" aria-label="{canvas}"></canvas></div><p>'
    '<label>{size} <input type="range" min="1" max="100" value="35"></label>'
    '<button type="button" data-do="paint" aria-pressed="true">{paint}</button>'
    '<button type="button" data-do="erase" aria-pressed="false">{erase}</button>'
    '<button type="button" data-do="undo">{undo}</button><button type="button" data-do="clear">{clear}</button>'
    '<span role="status"></span></p></div>'
)
