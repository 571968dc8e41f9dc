"""Masks of pixels that are kept as images: white is what is meant, black is not."""

from __future__ import annotations

import numpy as np

from visionkit.errors import DataError
from visionkit.images import ImageSource


def read_mask(source: ImageSource, invert: bool = False) -> np.ndarray:
    """A mask, (h, w) bool: true where the image is brighter than middle gray, or darker where `invert` is set.

    Args:
        source: The image, of any type that is read.
        invert: Black is what is meant.

    Raises:
        DataError: It cannot be read; or it has marks that are all darker than middle gray, as where 1 stands for white,
            which would mark nothing.
    """
    values = source.read(1)[:, :, 0]
    most = int(values.max(initial=0))
    if 0 < most <= 127:
        raise DataError(
            f"{source.name}: the largest value of this mask is {most}, and white is 255; multiply it by {255 // most}"
        )
    return values <= 127 if invert else values > 127
