"""Label maps in color over the image."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size, shortened
from visionkit.drawing.colors import palette
from visionkit.images import ImageLike, read_image
from visionkit.predictions import LabelMap

OPACITY = 0.55
_NOTHING = (128, 128, 128)
_ROWS = 256  # blended at a time: an image of 100 megapixels has no second copy in floats


def draw(prediction: LabelMap, image: ImageLike) -> np.ndarray:
    """Classes in color, their borders in white, and a legend of the largest."""
    source_image = read_image(image)
    return legend(enlarged(overlay(prediction, source_image)), prediction)


def overlay(prediction: LabelMap, image: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Colors the pixels of an image by their class.

    Args:
        prediction: Prediction of an image of that size.
        image: (h, w, 3) uint8 RGB.
        opacity: Opacity of the colors, 0 to 1. What is left unmarked stays as it is, half as bright.

    Returns:
        A changed copy.

    Raises:
        ValueError: The sizes differ.
    """
    if image.shape[:2] != prediction.size:
        raise ValueError(f"a label map of {prediction.size} cannot be drawn on an image of {image.shape[:2]}")
    table = np.full((prediction.unknown + 1, 3), _NOTHING, dtype=np.float32)
    table[: len(prediction.classes)] = palette(len(prediction.classes))
    out = np.empty_like(image)
    for top in range(0, len(image), _ROWS):
        rows = slice(top, top + _ROWS)
        labels = prediction.labels[rows]
        blended = image[rows] * np.float32(1 - opacity) + table[labels] * np.float32(opacity)
        known = labels != prediction.unknown
        if not known.all():
            blended[~known] = image[rows][~known] * 0.5
        out[rows] = (blended + 0.5).astype(np.uint8)
    if opacity > 0:
        labels = prediction.labels
        border = np.zeros(labels.shape, dtype=bool)
        border[:-1] = labels[:-1] != labels[1:]
        border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
        white = np.uint8(255)
        out[border] = white - ((white - out[border]) * (1 - opacity)).astype(np.uint8)
    return out


def legend(image: np.ndarray, prediction: LabelMap, most: int = 8) -> np.ndarray:
    """Writes the largest classes with their colors and fractions on a darkened plate in the upper left corner.

    Args:
        image: (h, w, 3) uint8 RGB.
        prediction: States what is there.
        most: Classes that are named; those that do not fit into the height are left out.

    Returns:
        A changed copy.
    """
    height, width = image.shape[:2]
    size = letter_size(height, width)
    letters = font(size)
    line, margin = round(1.5 * size), round(0.5 * size)
    areas = prediction.areas()[: min(most, max(1, (height // 2) // line))]
    if not areas:
        return image
    room = max(width - 4 * margin - 2 * size, 1)
    names = [shortened(f"{area.name} {area.fraction:.0%}", letters, room) for area in areas]
    wide = round(max(letters.getlength(name) for name in names)) + 2 * size + margin
    box = (margin // 2, margin // 2, min(width, wide + margin), margin + line * len(areas))
    out = image.copy()
    corner = Image.fromarray(out[: min(box[3] + margin, height), : max(box[2] + margin, 1)]).convert("RGBA")
    layer = Image.new("RGBA", corner.size)
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle(box, radius=size // 2, fill=(16, 18, 24, 190))
    table = palette(len(prediction.classes)).tolist()
    colors = dict(zip(prediction.classes, table, strict=True))
    for row, (area, name) in enumerate(zip(areas, names, strict=True)):
        top = margin + row * line
        pen.rectangle((margin, top, margin + size, top + size), fill=(*colors[area.name], 255))
        pen.text((margin + round(1.6 * size), top + size), name, font=letters, fill=(255, 255, 255, 255), anchor="ls")
    blended = np.asarray(Image.alpha_composite(corner, layer).convert("RGB"))
    out[: blended.shape[0], : blended.shape[1]] = blended
    return out
