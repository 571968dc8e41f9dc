"""Evidence for a class over its picture: the colder, the less the network's answer rests on a place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from visionkit.drawing.base import enlarged

if TYPE_CHECKING:
    from visionkit.explain import Explanation

STRENGTH = 0.6
"""Share of the colour where the evidence is strongest."""


def heat(explanation: Explanation, picture: np.ndarray) -> np.ndarray:
    """The picture, greyed, under the colours of the evidence.

    Args:
        explanation: Of that picture.
        picture: (h, w, 3) uint8 RGB; it is not changed.

    Returns:
        (h, w, 3) uint8 RGB; a picture of less than 256 pixels is enlarged by a whole factor.
    """
    import cv2

    shown = enlarged(picture)
    factor = shown.shape[0] // picture.shape[0]
    values = explanation.values
    if factor > 1:
        values = cv2.resize(values, shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    codes = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(codes, cv2.COLORMAP_INFERNO)[..., ::-1]
    share = (STRENGTH * values)[..., None]
    out: np.ndarray = (grey * (1 - share) + colours * share + 0.5).astype(np.uint8)
    return out
