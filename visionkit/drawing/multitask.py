"""The drawings of all heads side by side, each with its name."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import font, letter_size, shortened
from visionkit.images import ImageLike, ImageSource
from visionkit.predictions import MultiTaskPrediction

_PAPER, _INK = (250, 250, 250), (24, 26, 32)
_MOST = 4096
"""Pixels a side of the sheet, at most; panels of larger images are reduced."""


def draw(prediction: MultiTaskPrediction, image: ImageLike) -> np.ndarray:
    """One panel a head on a sheet that is about as wide as it is high; of one head, its own drawing."""
    source = ImageSource(image)
    pixels = source.read(3)
    panels = {name: part.draw(pixels) for name, part in prediction.items()}
    if len(panels) < 2:
        return next(iter(panels.values()), pixels)
    height = max(panel.shape[0] for panel in panels.values())
    width = max(panel.shape[1] for panel in panels.values())
    columns = max(1, min(len(panels), round(math.sqrt(len(panels) * height / width))))
    rows = -(-len(panels) // columns)
    factor = min(1.0, _MOST / (height * rows), _MOST / (width * columns))
    height, width = max(1, round(height * factor)), max(1, round(width * factor))
    size = letter_size(height, width)
    title, gap = 2 * size, max(4, size // 2)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + title + gap) + gap), _PAPER)
    pen, letters = ImageDraw.Draw(sheet), font(size)
    for number, (name, panel) in enumerate(panels.items()):
        left, top = gap + number % columns * (width + gap), gap + number // columns * (height + title + gap)
        pen.text((left, top + title // 2), shortened(name, letters, width), font=letters, fill=_INK, anchor="lm")
        shown = Image.fromarray(panel)
        if factor < 1:
            shown = shown.resize((round(panel.shape[1] * factor), round(panel.shape[0] * factor)), Image.Resampling.BOX)
        sheet.paste(shown, (left, top + title))
    return np.asarray(sheet)
