"""From what the network gives to images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import ImagePrediction


def to_images(values: Tensor, geometry: Sequence[Geometry], scale: int) -> list[ImagePrediction]:
    """(B, 3, H, W) float on a scale of 255 to one image each, rounded to 8 bit.

    Args:
        values: Values in input pixels times `scale`.
        geometry: Geometry of the low-resolution images; what a batch padded is left out.
        scale: Factor.
    """
    images = []
    for value, each in zip(values, geometry, strict=True):
        height, width = each.resized[0] * scale, each.resized[1] * scale
        whole = value[:, :height, :width].round().clamp(0, 255)
        pixels = np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
        images.append(ImagePrediction(pixels, scale))
    return images
