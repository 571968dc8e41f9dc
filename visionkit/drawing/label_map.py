"""Label maps in colour over the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size, shortened
from visionkit.drawing.colours import palette
from visionkit.images import ImageLike, read_image
from visionkit.predictions import LabelMap

OPACITY = 0.55
_NOTHING = (128, 128, 128)
_ROWS = 256  # blended at a time: a picture of 100 megapixels has no second copy in floats


def draw(prediction: LabelMap, image: ImageLike) -> np.ndarray:
    """Classes in colour, their borders in white, and a legend of the largest."""
    picture = read_image(image)
    return legend(enlarged(overlay(prediction, picture)), prediction)


def overlay(prediction: LabelMap, picture: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Colours the pixels of a picture by their class.

    Args:
        prediction: Of a picture of that size.
        picture: (h, w, 3) uint8 RGB.
        opacity: Of the colours, 0 to 1. What nothing is said of stays as it is, half as bright.

    Returns:
        A changed copy.

    Raises:
        ValueError: The sizes differ.
    """
    if picture.shape[:2] != prediction.size:
        raise ValueError(f"a label map of {prediction.size} cannot be drawn on a picture of {picture.shape[:2]}")
    table = np.full((prediction.unknown + 1, 3), _NOTHING, dtype=np.float32)
    table[: len(prediction.classes)] = palette(len(prediction.classes))
    out = np.empty_like(picture)
    for top in range(0, len(picture), _ROWS):
        rows = slice(top, top + _ROWS)
        labels = prediction.labels[rows]
        blended = picture[rows] * np.float32(1 - opacity) + table[labels] * np.float32(opacity)
        said = labels != prediction.unknown
        if not said.all():
            blended[~said] = picture[rows][~said] * 0.5
        out[rows] = (blended + 0.5).astype(np.uint8)
    if opacity > 0:
        labels = prediction.labels
        border = np.zeros(labels.shape, dtype=bool)
        border[:-1] = labels[:-1] != labels[1:]
        border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
        white = np.uint8(255)
        out[border] = white - ((white - out[border]) * (1 - opacity)).astype(np.uint8)
    return out


def legend(picture: np.ndarray, prediction: LabelMap, most: int = 8) -> np.ndarray:
    """Writes the largest classes with their colours and shares on a darkened plate in the upper left corner.

    Args:
        picture: (h, w, 3) uint8 RGB.
        prediction: Says what is there.
        most: Classes that are named; those that do not fit into the height are left out.

    Returns:
        A changed copy.
    """
    height, width = picture.shape[:2]
    size = letter_size(height, width)
    letters = font(size)
    line, margin = round(1.5 * size), round(0.5 * size)
    areas = prediction.areas()[: min(most, max(1, (height // 2) // line))]
    if not areas:
        return picture
    room = max(width - 4 * margin - 2 * size, 1)
    names = [shortened(f"{area.name} {area.share:.0%}", letters, room) for area in areas]
    wide = round(max(letters.getlength(name) for name in names)) + 2 * size + margin
    box = (margin // 2, margin // 2, min(width, wide + margin), margin + line * len(areas))
    out = picture.copy()
    corner = Image.fromarray(out[: min(box[3] + margin, height), : max(box[2] + margin, 1)]).convert("RGBA")
    layer = Image.new("RGBA", corner.size)
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle(box, radius=size // 2, fill=(16, 18, 24, 190))
    table = palette(len(prediction.classes)).tolist()
    colours = dict(zip(prediction.classes, table, strict=True))
    for row, (area, name) in enumerate(zip(areas, names, strict=True)):
        top = margin + row * line
        pen.rectangle((margin, top, margin + size, top + size), fill=(*colours[area.name], 255))
        pen.text((margin + round(1.6 * size), top + size), name, font=letters, fill=(255, 255, 255, 255), anchor="ls")
    blended = np.asarray(Image.alpha_composite(corner, layer).convert("RGB"))
    out[: blended.shape[0], : blended.shape[1]] = blended
    return out
