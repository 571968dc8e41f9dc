"""Sheets of images: what the network was shown, and truth beside prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import font, shortened
from visionkit.predictions import Prediction
from visionkit.types import Sample

CELL = 300
"""Longer side of an image on a sheet, in pixels."""

_INK, _FAINT, _PAPER = (30, 34, 42), (108, 114, 126), (255, 255, 255)
_GAP, _CAPTION, _HEAD = 14, 22, 62


def drawn_pair(sample: Sample, prediction: Prediction) -> tuple[np.ndarray, np.ndarray, Prediction | None]:
    """The image with its truth, the image with its prediction, and the truth where the sample states it."""
    pixels = sample.image.read()
    truth = prediction.truth(sample.target)
    return pixels if truth is None else truth.draw(pixels), prediction.draw(pixels), truth


def caption(row: Mapping[str, Any]) -> str:
    """A row of a table on one line."""
    return ", ".join(_message(name, value) for name, value in row.items())


def _message(name: str, value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return name if value else f"not {name}"
    return f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}"


def small(image: np.ndarray, side: int = CELL) -> Image.Image:
    """An image whose longer side is `side`: reduced, or enlarged by a whole factor so that its pixels stay visible."""
    factor = max(1, side // max(image.shape[:2]))
    shown = Image.fromarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
    shown.thumbnail((side, side), Image.Resampling.BOX)
    return shown


def sheet(
    title: str,
    message: str,
    groups: Sequence[tuple[Sequence[np.ndarray], str]],
    columns: int,
    heads: Sequence[str] = (),
) -> Image.Image:
    """A sheet of images with captions.

    Args:
        title: Title above all.
        message: A sentence below it.
        groups: Images that belong together, side by side, and their caption.
        columns: Groups per row.
        heads: What the images of a group are, above each column of images.
    """
    shown = [([small(image) for image in images], text) for images, text in groups]
    wide = max(max(image.width for image in images) for images, _ in shown)
    per = max(len(images) for images, _ in shown)
    columns = min(columns, len(shown))
    group = per * wide + (per - 1) * 4
    rows = [shown[k : k + columns] for k in range(0, len(shown), columns)]
    heights = [max(max(image.height for image in images) for images, _ in row) + _CAPTION + _GAP for row in rows]
    head = _HEAD + (20 if heads else 0)
    width = max(columns * (group + _GAP) + _GAP, 520)
    out = Image.new("RGB", (width, head + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(out)
    pen.text((_GAP, 26), shortened(title, font(17), width - 2 * _GAP), font=font(17), fill=_INK, anchor="ls")
    pen.text((_GAP, 48), shortened(message, font(13), width - 2 * _GAP), font=font(13), fill=_FAINT, anchor="ls")
    for column in range(columns if heads else 0):
        for k, name in enumerate(heads):
            x = _GAP + column * (group + _GAP) + k * (wide + 4)
            pen.text((x, head - 6), name, font=font(13), fill=_INK, anchor="ls")
    top = head
    for row, height in zip(rows, heights, strict=True):
        for column, (images, text) in enumerate(row):
            left = _GAP + column * (group + _GAP)
            for k, image in enumerate(images):
                out.paste(image, (left + k * (wide + 4), top))
            below = top + max(image.height for image in images) + 15
            pen.text((left, below), shortened(text, font(12), group), font=font(12), fill=_INK, anchor="ls")
        top += height
    return out
