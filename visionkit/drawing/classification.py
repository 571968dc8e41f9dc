"""Classes with bars of their probabilities."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size, shortened
from visionkit.images import ImageLike, read_image
from visionkit.predictions import Classification, Label

_PLATE = (16, 18, 24, 190)
_BAR = (84, 160, 255, 235)
_TROUGH = (84, 88, 98, 215)
_INK = (255, 255, 255, 255)


def draw(prediction: Classification, image: ImageLike) -> np.ndarray:
    """The most probable classes with bars, on a plate in the upper left corner."""
    canvas = enlarged(read_image(image))
    labels = prediction.labels[:5] if prediction.multilabel else prediction.top(3)
    return plate(canvas, labels) if labels else canvas


def plate(image: np.ndarray, labels: list[Label]) -> np.ndarray:
    """Writes labels with probability bars on a darkened plate in the upper left corner.

    Args:
        image: (h, w, 3) uint8 RGB.
        labels: The most probable first; those that do not fit into the height are left out, at least one is written.

    Returns:
        A changed copy.
    """
    height, width = image.shape[:2]
    size = letter_size(height, width)
    letters = font(size)
    margin, line, inset = round(0.5 * size), round(1.75 * size), round(0.5 * size)
    labels = labels[: max(1, (height - 2 * margin) // line)]
    number = letters.getlength("100.0 %")
    room = width - 2 * margin - 2 * inset - number - size
    names = [shortened(label.name, letters, room) for label in labels]
    # Bars stay comparable by a common width, no matter how short the names are.
    wide = min(room, max(8 * size, *(letters.getlength(name) for name in names), 0))
    right = round(min(width - margin, margin + 2 * inset + wide + size + number))
    bottom = margin + len(labels) * line + round(0.3 * size)
    # Only the plate is blended: a copy of a 12-megapixel image for a corner of it would be waste.
    out = image.copy()
    corner = Image.fromarray(out[: min(bottom, height), : max(right, 1)]).convert("RGBA")
    layer = Image.new("RGBA", corner.size)
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle((margin // 2, margin // 2, right - 1, bottom - 1), radius=size // 2, fill=_PLATE)
    left, end = margin // 2 + inset, right - inset
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        top = margin // 2 + round(0.35 * size) + row * line
        base = top + round(1.1 * size)
        pen.text((left, base), name, font=letters, fill=_INK, anchor="ls")
        pen.text((end, base), f"{label.probability:.1%}".replace("%", " %"), font=letters, fill=_INK, anchor="rs")
        bar = (left, top + round(1.32 * size), end, top + round(1.32 * size) + max(1, size // 7))
        pen.rectangle(bar, fill=_TROUGH)
        fraction = min(max(label.probability, 0.0), 1.0)
        if fraction > 0:
            pen.rectangle((bar[0], bar[1], bar[0] + max(0, round(fraction * (end - left))), bar[3]), fill=_BAR)
    blended = np.asarray(Image.alpha_composite(corner, layer).convert("RGB"))
    out[: blended.shape[0], : blended.shape[1]] = blended
    return out
