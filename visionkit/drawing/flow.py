"""Optical flow by the color wheel of Baker et al., 2011: the color is the direction, its saturation the length."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size
from visionkit.images import ImageLike
from visionkit.predictions import FlowField

_SECTORS = (15, 6, 4, 11, 13, 6)
"""Colors from red to yellow, green, cyan, blue, magenta and back to red: as many as people can distinguish."""

_LONGER = 0.75
"""Lightness of motions that are longer than the most saturated color."""


def draw(prediction: FlowField, image: ImageLike) -> np.ndarray:
    """The field in colors with its wheel; what is not known is black. The image itself is not needed."""
    return legend(enlarged(colors(prediction)), prediction.reach)


@lru_cache(maxsize=1)
def color_table() -> np.ndarray:
    """(55, 3) float32 RGB in [0, 1], once around the wheel."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float32)
    parts = [
        corners[k] + (corners[k + 1] - corners[k]) * (np.arange(count) / count)[:, None]
        for k, count in enumerate(_SECTORS)
    ]
    table: np.ndarray = np.concatenate(parts).astype(np.float32)
    table.setflags(write=False)
    return table


def colors(prediction: FlowField) -> np.ndarray:
    """(h, w, 3) uint8 RGB."""
    out = wheel_colors(prediction.values, prediction.reach)
    out[~prediction.known] = 0
    return out


def wheel_colors(values: np.ndarray, reach: float) -> np.ndarray:
    """The colors of vectors: white for none, saturated for `reach`, darker for what is longer.

    Args:
        values: (2, h, w) float, to the right and downwards.
        reach: Length of the most saturated color.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    u, v = values.astype(np.float32) / np.float32(reach)
    length, table = np.hypot(u, v)[..., None], color_table()
    place = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(table) - 1)
    first = np.floor(place).astype(np.int64)
    part = (place - first)[..., None]
    hue = (1 - part) * table[first] + part * table[(first + 1) % len(table)]
    shade = np.where(length <= 1, 1 - length * (1 - hue), hue * _LONGER)
    out: np.ndarray = (shade * 255).astype(np.uint8)
    return out


def wheel(side: int) -> np.ndarray:
    """(side, side, 4) uint8 RGBA: the colors of all directions and lengths, transparent beside the wheel."""
    places = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    vectors = np.stack(np.meshgrid(places, places))
    inside = np.hypot(*vectors) <= 1
    return np.dstack([wheel_colors(vectors, 1.0), np.where(inside, 255, 0).astype(np.uint8)])


def legend(image: np.ndarray, reach: float) -> np.ndarray:
    """Puts the wheel on a darkened plate into the corner at the lower right, with the length of its rim.

    Args:
        image: (h, w, 3) uint8 RGB.
        reach: Length in pixels of the wheel's rim.

    Returns:
        A changed copy; unchanged where there is no room.
    """
    height, width = image.shape[:2]
    size = letter_size(height, width)
    letters, text = font(size), f"{reach:.3g} px"
    side = 5 * size
    across, down = max(side, round(letters.getlength(text))) + size, side + round(2.4 * size)
    if across > width // 2 or down > height // 2:
        return image
    canvas = Image.fromarray(image).convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    pen = ImageDraw.Draw(layer)
    left, top = width - across - size // 2, height - down - size // 2
    pen.rounded_rectangle((left, top, left + across, top + down), radius=size // 2, fill=(16, 18, 24, 190))
    disc = Image.fromarray(wheel(side))
    layer.paste(disc, (left + (across - side) // 2, top + size // 2), disc)
    pen.text((left + across / 2, top + side + size), text, font=letters, fill=(255, 255, 255, 255), anchor="mt")
    return np.asarray(Image.alpha_composite(canvas, layer).convert("RGB"))
