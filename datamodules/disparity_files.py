"""Disparity as it lies in files, brought to pixels with 0 for not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.depth_files import read_plane
from datamodules.float_files import FLOAT_SUFFIXES
from visionkit.errors import DataError

DISPARITY_SUFFIXES = (".png", ".pgm", ".tif", ".tiff", *FLOAT_SUFFIXES)
"""Endings of files that are read as disparity."""

KITTI_SCALE = 256.0
"""Numbers of a 16-bit file that stand for a pixel."""


def read_disparity(path: str | Path, scale: float | None = None) -> np.ndarray:
    """Reads one file of disparity.

    Args:
        path: A `.pfm`, `.npy` or `.tif` of floats, KITTI's gray png of 16 bits, or Middlebury's png or pgm of 8 bits.
        scale: Numbers that stand for a pixel; by default 256 for 16 bits and 1 for floats. Files of 8 bits have no
            default: Middlebury's of 2003 have 4.

    Returns:
        (h, w) float32 pixels; 0 is not measured, which NaN, infinity and values below 0 become too.

    Raises:
        DataError: Not there, not one gray plane, or 8-bit numbers with no scale given.
    """
    values = read_plane(path, "disparity")
    if values.dtype == np.uint8 and scale is None:
        raise DataError(
            f"{path}: 8-bit numbers; KITTI's disparity is a png of 16 bits, which this may have been before it was "
            "saved again. If it is Middlebury's, state how many numbers a pixel has (4 in the pairs of 2003), with "
            "--data.scale, or --truth-units in evaluate"
        )
    unit = scale or (1.0 if values.dtype.kind == "f" else KITTI_SCALE)
    pixels = np.asarray(values, dtype=np.float32) / np.float32(unit)
    return np.where(np.isfinite(pixels) & (pixels > 0), pixels, np.float32(0))
