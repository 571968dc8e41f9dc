"""Evidence for a class over its image: the colder a position, the less the prediction rests on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from visionkit.drawing.base import enlarged

if TYPE_CHECKING:
    from visionkit.explain import Explanation

STRENGTH = 0.6
"""Fraction of the color where the evidence is strongest."""


def heat(explanation: Explanation, image: np.ndarray) -> np.ndarray:
    """The image, in gray, under the colors of the evidence.

    Args:
        explanation: Explanation of that image.
        image: (h, w, 3) uint8 RGB; it is not changed.

    Returns:
        (h, w, 3) uint8 RGB; an image of less than 256 pixels is enlarged by a whole factor.
    """
    import cv2

    shown = enlarged(image)
    factor = shown.shape[0] // image.shape[0]
    values = explanation.values
    if factor > 1:
        values = cv2.resize(values, shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    gray = cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    codes = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(codes, cv2.COLORMAP_INFERNO)[..., ::-1]
    fraction = (STRENGTH * values)[..., None]
    out: np.ndarray = (gray * (1 - fraction) + colors * fraction + 0.5).astype(np.uint8)
    return out
