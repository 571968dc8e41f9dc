"""Drawings as files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

MAX_SIDE = 65_500
"""Pixels of a side that a JPEG may have; a larger drawing is reduced to it."""


def jpeg(drawn: np.ndarray, quality: int = 92) -> bytes:
    """A drawing as the bytes of a JPEG file, reduced where it is larger than a JPEG may be.

    Args:
        drawn: (h, w, 3) uint8 RGB.
        quality: Quality of JPEG, 1 to 95.
    """
    image = Image.fromarray(drawn)
    if max(image.size) > MAX_SIDE:
        scale = MAX_SIDE / max(image.size)
        width, height = (max(1, int(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()
