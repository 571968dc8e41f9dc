"""From what a network gives to images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from visionkit.families.restoration.quality import to_levels
from visionkit.geometry import Geometry
from visionkit.predictions import ImagePrediction


def to_images(values: Tensor, geometry: Sequence[Geometry], scale: int = 1) -> list[ImagePrediction]:
    """One image of each, rounded to 8 bit.

    Args:
        values: (B, C, H, W) float on a scale of 255, in input pixels times `scale`; C is 1 for gray, 3 for RGB.
        geometry: Geometry of the images that the network took; what a batch padded is left out.
        scale: Pixels of the result for each pixel of the input, along each side.
    """
    images = []
    for value, each in zip(values, geometry, strict=True):
        height, width = each.resized[0] * scale, each.resized[1] * scale
        whole = to_levels(value[:, :height, :width])
        pixels = np.ascontiguousarray(whole.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
        images.append(ImagePrediction(pixels, scale))
    return images
