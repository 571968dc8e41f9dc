"""Colors that distinguish classes."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np

_TURN = 0.61803398875  # the golden ratio: neighbors in number are far apart in hue, however many there are


@lru_cache(maxsize=32)
def palette(count: int) -> np.ndarray:
    """One color per class, the same for the same number of the class whatever the count.

    Args:
        count: Number of classes.

    Returns:
        (count, 3) uint8 RGB; not to be changed.
    """
    colors = np.zeros((count, 3), dtype=np.uint8)
    for number in range(count):
        hue = (0.58 + number * _TURN) % 1.0
        # Hues repeat in the end; lightness and saturation then distinguish the rounds.
        lightness = (0.52, 0.68, 0.38)[number // 12 % 3]
        saturation = (0.75, 0.5)[number // 36 % 2]
        colors[number] = [round(255 * value) for value in colorsys.hls_to_rgb(hue, lightness, saturation)]
    colors.setflags(write=False)
    return colors
