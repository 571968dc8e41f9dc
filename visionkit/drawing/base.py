"""What the drawings share.

Sizes of letters and lines follow the image's. The letters are Pillow's own embedded font, so nothing has to be
installed or shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import ImageFont

MIN_SIDE = 256
"""An image whose longer side is smaller is enlarged by a whole factor first, so that words fit on it."""

_ELLIPSIS = "…"
_GAP = 6  # pixels between images that stand side by side


def enlarged(image: np.ndarray, min_side: int = MIN_SIDE) -> np.ndarray:
    """A copy whose longer side has at least `min_side` pixels, each file pixel a square of whole size.

    Args:
        image: (h, w, 3) uint8.
        min_side: Shortest side in pixels.
    """
    factor = max(1, -(-min_side // max(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image.copy()


def letter_size(height: int, width: int) -> int:
    """Height of letters in pixels that suits an image of that size."""
    return int(min(max(0.032 * (height * width) ** 0.5, 11), 0.055 * max(height, width), 96))


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's embedded font."""
    return ImageFont.load_default(size)


def shortened(text: str, letters: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """The text on one line, its end replaced by an ellipsis where it is wider than `room` pixels."""
    text = " ".join(text.split())
    if letters.getlength(text) <= room:
        return text
    while text and letters.getlength(text + _ELLIPSIS) > room:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Images in a row on white, their upper borders aligned.

    Args:
        panels: At least one, (h, w, 3) uint8 each.
    """
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) - 1)
    out = np.full((height, width, 3), 255, dtype=np.uint8)
    left = 0
    for panel in panels:
        out[: panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + _GAP
    return out
