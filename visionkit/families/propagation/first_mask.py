"""The mask of the first frame: which forms of it are understood, and what is wrong with others."""

from __future__ import annotations

import numpy as np

from visionkit.errors import DataError
from visionkit.types import IGNORE

LARGEST = 254
"""Largest number of an object; 255 is a pixel of which nothing is known."""

_FEW = 32
"""So many numbers may have gaps between them, or 255 beside them; more are gray levels of an image."""


def checked_mask(mask: np.ndarray, size: tuple[int, int] | None = None, name: str = "mask") -> np.ndarray:
    """The mask of the first frame as a label map.

    Args:
        mask: (h, w) numbers: 0 is background and each object has its own, from 1 to 254; or bool, or 0 and 255, which
            is one object. 255 beside objects 1, 2, ... is a pixel of which nothing is known.
        size: Height and width of the frame; None checks everything else.
        name: What it is called in messages.

    Returns:
        (h, w) uint8, 255 where nothing is known.

    Raises:
        DataError: Another size, no object, gray levels, colors, or numbers that are not allowed.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] in (1, 2):
        mask = mask[..., 0]
    if mask.ndim == 3 and mask.shape[2] in (3, 4) and not np.ptp(mask[..., :3].astype(np.int64), axis=2).any():
        mask = mask[..., 0]
    if mask.ndim != 2:
        what = "is in color" if mask.ndim == 3 else f"has shape {mask.shape}"
        raise DataError(f"{name}: {what}; give one number per pixel (an indexed or gray png), 0 for the background")
    if size is not None and mask.shape != size:
        raise DataError(
            f"{name}: {mask.shape[1]}x{mask.shape[0]} pixels, and the frame has {size[1]}x{size[0]}; draw it on the "
            "frame itself"
        )
    if mask.dtype.kind == "f" and not (np.isfinite(mask).all() and (mask == np.rint(mask)).all()):
        raise DataError(f"{name}: its values are fractions; 0 is background, objects are 1, 2, ...")
    values = np.unique(mask).astype(np.int64)
    labels = values[values != 0]
    if not len(labels):
        raise DataError(f"{name}: no object in it, all pixels are 0; mark the object with 1 (or 255), others with 2, 3")
    if labels[0] < 0 or labels[-1] > IGNORE:
        raise DataError(f"{name}: value {labels[0] if labels[0] < 0 else labels[-1]}: objects are 1 to {LARGEST}")
    if mask.dtype == bool or labels.tolist() == [IGNORE]:
        return np.asarray(mask != 0, np.uint8)
    objects = labels[labels != IGNORE]
    has_gaps, is_many, has_unknown = objects[-1] != len(objects), len(objects) > _FEW, len(objects) < len(labels)
    if (has_gaps and (has_unknown or is_many)) or (has_unknown and is_many):
        raise DataError(
            f"{name}: {len(values)} gray levels ({', '.join(map(str, values[:4]))}, ... {values[-1]}), so its borders "
            "are blended or compressed; give a png with 0 and 255 alone, or with one number per object"
        )
    return np.asarray(mask, np.uint8)
