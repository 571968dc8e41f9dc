"""Kernels of blur, read from files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES

_HDF5 = b"MATLAB 7.3"


def normalized(kernel: Any, name: str) -> np.ndarray:
    """A kernel that sums to 1.

    Args:
        kernel: (h, w) of numbers.
        name: Names it in messages.

    Returns:
        (h, w) float32.

    Raises:
        UsageError: Not a matrix of finite numbers, or their sum is not positive.
    """
    try:
        values = np.asarray(kernel, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: a kernel has rows of equally many numbers") from None
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UsageError(f"{name}: a kernel is a matrix of finite numbers, not of the shape {values.shape}")
    if values.sum() <= 0:
        raise UsageError(f"{name}: the numbers of a kernel must sum to more than 0, and these sum to {values.sum():g}")
    return np.asarray(values / values.sum(), dtype=np.float32)


def read_kernels(path: str | Path) -> list[np.ndarray]:
    """Reads the kernels of a file, or of all files of a folder in the order of their names.

    Args:
        path: `.npz` and `.npy` of numpy, `.mat` of MATLAB up to version 7, an image whose brightness is the kernel, or
            a text file with a row of numbers per line.

    Returns:
        (h, w) float32 each, of sum 1. Several in one file come in the order of their names, numbers by value.

    Raises:
        DataError: No such file, or no kernels in it.
    """
    path = Path(path)
    if path.is_dir():
        return [kernel for each in sorted(path.iterdir()) if each.is_file() for kernel in read_kernels(each)]
    if not path.is_file():
        raise DataError(f"{path}: no such file of kernels")
    try:
        found = dict(_read(path))
    except (OSError, ValueError, KeyError, NotImplementedError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as kernels ({str(error).splitlines()[0]})") from error
    if not found:
        raise DataError(f"{path}: no matrix of numbers in this file")
    try:
        return [normalized(found[key], f"{path}{f' ({key})' if key else ''}") for key in sorted(found, key=_natural)]
    except UsageError as error:
        raise DataError(str(error)) from None


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            yield from ((name, archive[name]) for name in archive.files)
    elif suffix == ".npy":
        yield "", np.load(path, allow_pickle=False)
    elif suffix == ".mat":
        yield from _of_matlab(path)
    elif suffix in SUFFIXES:
        yield "", ImageSource(path).read(1)[:, :, 0]
    else:
        yield "", np.loadtxt(path, delimiter="," if "," in path.read_text("utf-8") else None, ndmin=2)


def _of_matlab(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            raise ValueError("MATLAB 7.3, which is HDF5; save it with -v7, or as npz")
    from scipy.io import loadmat

    for name, value in loadmat(path).items():
        if name.startswith("__"):
            continue
        if value.dtype == object:  # a cell array
            yield from ((f"{name}{k}", cell) for k, cell in enumerate(value.ravel(), 1))
        elif value.ndim == 2 and value.dtype.kind in "fiu":
            yield name, value


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts `k2` before `k10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]
