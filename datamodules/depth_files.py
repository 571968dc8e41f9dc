"""Depth as it lies in files, brought to metres with 0 for not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.float_files import FLOAT_SUFFIXES, read_floats
from datamodules.value_files import read_values
from visionkit.errors import DataError

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".pgm", *FLOAT_SUFFIXES)
"""Endings of files that are read as depth."""


def read_depth(path: str | Path, units_per_metre: float | None = None) -> np.ndarray:
    """Reads one file of depth.

    Args:
        path: A grey png, tiff or pgm of 16 bits or floats, a `.npy` or `.npz` of (h, w), a `.pfm` or an `.exr`.
        units_per_metre: What stands for a metre; by default 1000 (millimetres) for whole numbers and 1 for floats.

    Returns:
        (h, w) float32 metres; 0 is not measured, which NaN, infinity and values below 0 become too.

    Raises:
        DataError: Not there, not one grey plane, or 8-bit numbers with no unit given.
    """
    values = read_raw(Path(path))
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise DataError(f"{path}: depth is one number per pixel, (h, w); this is {values.shape} {values.dtype}")
    if values.dtype == np.uint8 and units_per_metre is None:
        raise DataError(
            f"{path}: 8-bit numbers, mostly a picture of depth and not depth; if it is, say what a metre is with "
            "--data.units_per_metre"
        )
    return to_metres(values, units_per_metre)


def to_metres(values: np.ndarray, units_per_metre: float | None = None) -> np.ndarray:
    """Numbers of any type to float32 metres, see `read_depth`."""
    unit = units_per_metre or default_unit(values.dtype)
    metres = np.asarray(values, dtype=np.float32) / np.float32(unit)
    if values.dtype.kind != "u":
        metres = np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))
    return metres


def default_unit(dtype: np.dtype[Any]) -> float:
    """What stands for a metre where nobody says: 1 for floats, 1000 for whole numbers."""
    return 1.0 if dtype.kind == "f" else 1000.0


def read_raw(path: Path) -> np.ndarray:
    """The numbers of a file of depth as they are in it."""
    if path.suffix.lower() in FLOAT_SUFFIXES:
        return read_floats(path)
    values, lossy = read_values(path, "depth file")
    if values.ndim == 3:
        raise DataError(f"{path}: an image in color; depth is one number per pixel, such as a grey png of 16 bits")
    if lossy:
        raise DataError(f"{path}: in {lossy}, whose compression changes the numbers; depth is a png, tiff or array")
    return values
