"""Objects that are followed: a color and a number per object, the same in all frames."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size, shortened
from visionkit.drawing.colors import palette
from visionkit.drawing.detections import _box, _line_width, _luma
from visionkit.drawing.labels import Labels
from visionkit.images import ImageLike, read_image
from visionkit.predictions import Tracks

_COLORS = 36
"""Colors of objects; the next one begins with the first color again."""


def track_color(number: int) -> tuple[int, int, int]:
    """The color of an object, red, green and blue."""
    red, green, blue = (int(value) for value in palette(_COLORS)[number % _COLORS])
    return red, green, blue


def draw(prediction: Tracks, image: ImageLike) -> np.ndarray:
    """The objects from `threshold` on with their ids, and their class where there are several."""
    source_image = read_image(image)
    canvas = np.ascontiguousarray(enlarged(source_image))
    factor = canvas.shape[1] // source_image.shape[1]
    shown = prediction.above()
    colors = palette(_COLORS)[shown.ids % _COLORS]
    boxes = shown.boxes.astype(np.float64) * factor
    width = _line_width(canvas.shape[:2], len(shown))
    for number in np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable"):
        _box(canvas, boxes[number], colors[number], width)
    height, length = canvas.shape[:2]
    size = max(11, round(letter_size(height, length) * 0.55))
    letters = font(size)
    labels = Labels(boxes, (height, length))
    sheet = Image.fromarray(canvas)
    pen = ImageDraw.Draw(sheet)
    several = len(shown.classes) > 1
    for number, (name, each) in enumerate(zip(shown.names, shown.ids, strict=True)):
        text = f"{each} {shortened(name, letters, 8 * size)}" if several else str(each)
        w, h = round(letters.getlength(text)) + size // 2 + 1, round(1.3 * size)
        place = labels.place(number, w, h)
        if place is None:
            continue
        color = tuple(int(value) for value in colors[number])
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=color)
        ink = (255, 255, 255) if _luma(color) < 150 else (16, 18, 24)
        pen.text((place[0] + size // 4, place[1] + round(1.02 * size)), text, font=letters, fill=ink, anchor="ls")
    return np.array(sheet)
