"""An image beside the file that it was made of, enlarged by bicubic where the image is larger: before and after."""

from __future__ import annotations

import numpy as np

from visionkit.images import ImageLike, read_image
from visionkit.predictions import ImagePrediction

_LINE = (255, 255, 255)


def draw(prediction: ImagePrediction, image: ImageLike) -> np.ndarray:
    """The left half as it was given, the right half as predicted, a white line between them."""
    out = prediction.rgb.copy()
    width = prediction.size[1]
    half = width // 2
    if half:
        out[:, :half] = before(prediction, image)[:, :half]
        thick = max(1, width // 400)
        out[:, max(half - thick, 0) : half + thick] = _LINE
    return out


def before(prediction: ImagePrediction, image: ImageLike) -> np.ndarray:
    """The file at the size of the prediction, enlarged by bicubic where that is larger, (H, W, 3) uint8 RGB."""
    if prediction.scale == 1:
        return read_image(image)
    from visionkit.geometry import resize_image  # torch comes with it

    enlarged = resize_image(read_image(image), prediction.size, "bicubic")
    return np.ascontiguousarray(enlarged.permute(1, 2, 0).numpy())
