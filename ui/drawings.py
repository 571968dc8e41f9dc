"""Drawings of predictions at the size in which they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from visionkit.predictions import Prediction

SIDE = 1280
"""A drawing is not sent larger than this many pixels a side: a browser shows no more."""


def drawing(prediction: Prediction, image: np.ndarray) -> np.ndarray:
    """The image with the prediction drawn on it, (h, w, 3) uint8 RGB, not above `SIDE` pixels a side."""
    return as_sent(prediction.draw(image))


def as_sent(image: np.ndarray) -> np.ndarray:
    """An image at the size in which drawings are sent, which is all that a redrawing needs."""
    from PIL import Image

    if max(image.shape[:2]) <= SIDE:
        return image
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    return np.asarray(small)
