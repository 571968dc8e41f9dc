"""Depth as it lies in files, brought to meters with 0 for not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.float_files import FLOAT_SUFFIXES, read_floats
from datamodules.value_files import read_values
from visionkit.errors import DataError

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".pgm", *FLOAT_SUFFIXES)
"""Endings of files that are read as depth."""


def read_depth(path: str | Path, units_per_meter: float | None = None) -> np.ndarray:
    """Reads one file of depth.

    Args:
        path: A gray png, tiff or pgm of 16 bits or floats, a `.npy` or `.npz` of (h, w), a `.pfm` or an `.exr`.
        units_per_meter: What stands for a meter; by default 1000 (millimeters) for whole numbers and 1 for floats.

    Returns:
        (h, w) float32 meters; 0 is not measured, which NaN, infinity and values below 0 become too.

    Raises:
        DataError: Not there, not one gray plane, or 8-bit numbers with no unit given.
    """
    values = read_plane(path)
    if values.dtype == np.uint8 and units_per_meter is None:
        raise DataError(
            f"{path}: 8-bit numbers, mostly an image of depth and not depth; if it is, state what a meter is with "
            "--data.units_per_meter"
        )
    return to_meters(values, units_per_meter)


def to_meters(values: np.ndarray, units_per_meter: float | None = None) -> np.ndarray:
    """Numbers of any type to float32 meters, see `read_depth`."""
    unit = units_per_meter or default_unit(values.dtype)
    meters = np.asarray(values, dtype=np.float32) / np.float32(unit)
    if values.dtype.kind != "u":
        meters = np.where(np.isfinite(meters) & (meters > 0), meters, np.float32(0))
    return meters


def default_unit(dtype: np.dtype[Any]) -> float:
    """What stands for a meter by default: 1 for floats, 1000 for whole numbers."""
    return 1.0 if dtype.kind == "f" else 1000.0


def read_plane(path: str | Path, what: str = "depth") -> np.ndarray:
    """(h, w) numbers of a file that has one per pixel.

    Args:
        path: See `read_depth`.
        what: What they are, for messages.

    Raises:
        DataError: Not there, or not one gray plane of numbers.
    """
    values = read_raw(Path(path), what)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise DataError(f"{path}: {what} is one number per pixel, (h, w); this is {values.shape} {values.dtype}")
    return values


def read_raw(path: Path, what: str = "depth") -> np.ndarray:
    """The numbers of a file as they are in it."""
    if path.suffix.lower() in FLOAT_SUFFIXES:
        return read_floats(path)
    values, lossy = read_values(path, f"{what} file")
    if values.ndim == 3:
        raise DataError(f"{path}: an image in color; {what} is one number per pixel, such as a gray png of 16 bits")
    if lossy:
        raise DataError(f"{path}: in {lossy}, whose compression changes the numbers; {what} is a png, tiff or array")
    return values
