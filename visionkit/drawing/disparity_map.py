"""Disparity in the colors of depth, large and near bright, small and far dark, with a scale in pixels."""

from __future__ import annotations

import numpy as np

from visionkit.drawing.base import enlarged
from visionkit.drawing.depth_map import colors, scale_bar, shown_range
from visionkit.images import ImageLike
from visionkit.predictions import DepthMap, DisparityMap

_STEPS = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]


def draw(prediction: DisparityMap, image: ImageLike) -> np.ndarray:
    """Disparity in color with its scale; what is not known is gray. The image itself is not needed."""
    return scale_bar(enlarged(colors(DepthMap(prediction.values, metric=False))), marks(prediction))


def marks(prediction: DisparityMap) -> list[tuple[float, str]]:
    """Round numbers of pixels on the scale: the place of each, from 0 near to 1 far, and its text."""
    if not prediction.known.any():
        return []
    low, high = shown_range(DepthMap(prediction.values, metric=False))
    step = next((each for each in _STEPS if high - low <= 4 * each), _STEPS[-1])
    values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return [((high - value) / (high - low), f"{value:.4g} px") for value in values.tolist()]
