"""An image beside what bicubic makes of the same file: left before, right after."""

from __future__ import annotations

import numpy as np

from visionkit.images import ImageLike, read_image
from visionkit.predictions import ImagePrediction

_LINE = (255, 255, 255)


def draw(prediction: ImagePrediction, image: ImageLike) -> np.ndarray:
    """The left half enlarged by bicubic, the right half as predicted, a white line between them."""
    out = prediction.rgb.copy()
    width = prediction.size[1]
    half = width // 2
    if half:
        out[:, :half] = before(prediction, image)[:, :half]
        thick = max(1, width // 400)
        out[:, max(half - thick, 0) : half + thick] = _LINE
    return out


def before(prediction: ImagePrediction, image: ImageLike) -> np.ndarray:
    """The file enlarged by bicubic to the size of the prediction, (H, W, 3) uint8 RGB."""
    from visionkit.geometry import resize_image  # torch comes with it

    enlarged = resize_image(read_image(image), prediction.size, "bicubic")
    return np.ascontiguousarray(enlarged.permute(1, 2, 0).numpy())
