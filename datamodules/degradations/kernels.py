"""Kernels of blur: read from files, or made of a motion."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES

_STEPS = 2000  # of a random trajectory, as Kupyn et al. have it
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


def gaussian_kernel(sigma: float, radius: int) -> np.ndarray:
    """(2r + 1, 2r + 1) float32: a Gaussian, cut off at its radius."""
    line = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * max(sigma, 1e-6) ** 2))
    return normalized(np.outer(line, line), "gaussian")


def line_kernel(length: float, angle: float) -> np.ndarray:
    """The blur of a motion along a line, of constant speed.

    Pixels count by how near they are to the line, up to one pixel.

    Args:
        length: Length of the way in pixels, at least 1, which is no motion.
        angle: Degrees, counter-clockwise as seen, from the horizontal.
    """
    half = (max(length, 1.0) - 1) / 2
    radius = math.ceil(half)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = x * cos - y * sin, x * sin + y * cos  # y points down
    distance = np.hypot(np.maximum(np.abs(along) - half, 0), across)
    return normalized(np.maximum(1 - distance, 0), "line")


def shake_kernel(length: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """The blur of a camera that is held by hand: the way of a particle that drifts, swings back and is jolted.

    The model is that of Boracchi and Foi (2012), with the ranges of its parameters by Kupyn et al. (2018, algorithm 1).

    Args:
        length: Length of the way in pixels.
        size: Side of the kernel, odd; a way that leaves it is made as much smaller as it takes.
        rng: Draws the way.

    Returns:
        (size, size) float32, whose center of gravity is in the middle.
    """
    anxiety, inertia, jolts, drift = 0.001, rng.uniform(0, 0.7), rng.uniform(0, 0.2), rng.uniform(0, 0.7)
    step = length / (_STEPS - 1)
    heading = np.exp(1j * rng.uniform(0, 2 * math.pi))
    jolted = rng.random(_STEPS) < jolts * anxiety
    turns = np.exp(1j * (math.pi + rng.random(_STEPS) - 0.5))
    random = (drift * (rng.standard_normal(_STEPS) + 1j * rng.standard_normal(_STEPS))).tolist()
    velocity, place, way = complex(heading) * step, 0j, []
    for number in range(_STEPS):
        way.append(place)
        change = anxiety * (random[number] - inertia * place) * step
        if jolted[number]:
            change += 2 * velocity * complex(turns[number])
        velocity += change
        velocity *= step / max(abs(velocity), 1e-12)
        place += velocity
    path = np.array(way)
    path -= path.mean()
    half = size // 2
    farthest = max(np.abs(path.real).max(), np.abs(path.imag).max())
    return splatted(path * min(1.0, (half - 1) / max(farthest, 1e-12)), half)


def splatted(path: np.ndarray, half: int) -> np.ndarray:
    """A way of points as a kernel; each point is shared by the four pixels around it.

    Args:
        path: (n,) complex offsets from the middle in pixels, less than `half` each way.
        half: The kernel has 2 * half + 1 pixels a side.
    """
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    x, y = path.real + half, path.imag + half
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - left, y - top
    for dy, dx, weight in (
        (0, 0, (1 - down) * (1 - right)),
        (0, 1, (1 - down) * right),
        (1, 0, down * (1 - right)),
        (1, 1, down * right),
    ):
        np.add.at(kernel, (np.minimum(top + dy, 2 * half), np.minimum(left + dx, 2 * half)), weight)
    return normalized(kernel, "way")
