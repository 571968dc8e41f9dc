"""From what the network gives to pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import Picture


def to_pictures(values: Tensor, geometry: Sequence[Geometry], scale: int) -> list[Picture]:
    """(B, 3, H, W) float on a scale of 255 to one picture each, rounded to 8 bit.

    Args:
        values: In input pixels times `scale`.
        geometry: Of the low-resolution pictures; what a batch filled up is left out.
        scale: Factor.
    """
    pictures = []
    for value, each in zip(values, geometry, strict=True):
        height, width = each.resized[0] * scale, each.resized[1] * scale
        whole = value[:, :height, :width].round().clamp(0, 255)
        pixels = np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
        pictures.append(Picture(pixels, scale))
    return pictures
