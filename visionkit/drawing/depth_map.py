"""Depth in a perceptual color map, near bright and far dark, with a scale in meters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size
from visionkit.images import ImageLike
from visionkit.predictions import DepthMap

_NOTHING = np.array([96, 96, 96], dtype=np.uint8)
_PLATE = (16, 18, 24, 190)
_INK = (255, 255, 255, 255)
_MOST_TICKS = 5


def draw(prediction: DepthMap, image: ImageLike) -> np.ndarray:
    """Depth in color with its scale; what is not known is gray. The image itself is not needed."""
    return scale_bar(enlarged(colors(prediction)), marks(prediction))


@lru_cache(maxsize=1)
def color_table() -> np.ndarray:
    """(256, 3) uint8 RGB, from near to far: OpenCV's inferno, whose lightness falls evenly; not to be changed."""
    import cv2

    ramp = np.arange(255, -1, -1, dtype=np.uint8)[:, None]
    # Nobody can distinguish its darkest part from the black of nothing.
    table: np.ndarray = cv2.applyColorMap((ramp * 0.9 + 25).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, 0, ::-1].copy()
    table.setflags(write=False)
    return table


def shown_range(prediction: DepthMap) -> tuple[float, float]:
    """Nearest and farthest of what the colors are spread over; for relative maps in the map's own unit."""
    low, high = prediction.shown or prediction.limits()
    if prediction.metric:
        # Meters have meaning: a wall 2 cm deep is not to be spread over all colors.
        middle, least = (low + high) / 2, 0.05 * (low + high)
        low, high = min(low, middle - least), max(high, middle + least)
    return low, max(high, low + 1e-9)


def fractions(prediction: DepthMap) -> np.ndarray:
    """(h, w) uint8: 0 near to 255 far; meters evenly by their logarithm, as errors of depth grow with it."""
    low, high = shown_range(prediction)
    values = prediction.values
    if prediction.metric:
        start = math.log(max(low, 1e-6))
        part = (np.log(np.maximum(values, 1e-6)) - np.float32(start)) * np.float32(1 / (math.log(high) - start))
    else:
        part = (np.float32(high) - values) * np.float32(1 / (high - low))
    out: np.ndarray = (np.clip(part, 0, 1) * 255 + 0.5).astype(np.uint8)
    return out


def colors(prediction: DepthMap) -> np.ndarray:
    """(h, w, 3) uint8 RGB."""
    out: np.ndarray = color_table()[fractions(prediction)]
    out[~prediction.known] = _NOTHING
    return out


def ticks(low: float, high: float) -> list[float]:
    """Round numbers of meters within a range, two to five of them.

    Args:
        low: Meters, above 0.
        high: Meters, above `low`.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8)):
        numbers = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        inside = [number for number in numbers if low <= number <= high]
        if len(inside) > _MOST_TICKS:
            break
        found = inside
    if len(found) >= 2:
        return found
    for step in (digit * 10.0**power for power in range(first - 4, last + 1) for digit in (1, 2, 5)):
        inside = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(inside) <= _MOST_TICKS:
            break
    return inside


def marks(prediction: DepthMap) -> list[tuple[float, str]]:
    """Marks of the scale: place of each, from 0 near to 1 far, and its text; none where nothing is known."""
    if not prediction.known.any():
        return []
    if not prediction.metric:
        return [(0.0, "near"), (1.0, "far")]
    low, high = shown_range(prediction)
    return [(math.log(tick / low) / math.log(high / low), f"{tick:.3g} m") for tick in ticks(low, high)]


def scale_bar(image: np.ndarray, marks: Sequence[tuple[float, str]]) -> np.ndarray:
    """Puts the colors with their values on a darkened plate at the right.

    Args:
        image: (h, w, 3) uint8 RGB.
        marks: Place of each mark, from 0 at the top of the scale to 1 at its end, and its text.

    Returns:
        A changed copy; unchanged where there are no marks or no room.
    """
    if not marks:
        return image
    height, width = image.shape[:2]
    size = letter_size(height, width)
    letters = font(size)
    room = round(max(letters.getlength(text) for _, text in marks))
    bar = max(size // 2, 4)
    plate = room + bar + 2 * size
    if plate > width // 2 or height < 5 * size:
        return image
    tall = min(height - size, 14 * size)
    top, left = (height - tall) // 2, width - plate - size // 2
    out = image.copy()
    part = Image.fromarray(out[top : top + tall, left : left + plate]).convert("RGBA")
    layer = Image.new("RGBA", part.size)
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle((0, 0, plate - 1, tall - 1), radius=size // 2, fill=_PLATE)
    start, end = size, tall - size
    ramp = color_table()[np.linspace(0, 255, end - start).astype(np.uint8)]
    layer.paste(Image.fromarray(np.repeat(ramp[:, None], bar, axis=1)), (size // 2, start))
    for fraction, text in marks:
        row = start + fraction * (end - start)
        pen.line((size // 2 + bar, row, size // 2 + bar + size // 3, row), fill=_INK)
        pen.text((size + bar, row), text, font=letters, fill=_INK, anchor="lm")
    out[top : top + tall, left : left + plate] = np.asarray(Image.alpha_composite(part, layer).convert("RGB"))
    return out
