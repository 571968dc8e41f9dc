"""Kernels of blur that are made: of a Gaussian, or of a motion."""

from __future__ import annotations

import math

import numpy as np

from visionkit.families.restoration.blur_kernels import normalized

_STEPS = 2000  # of a random trajectory, as Kupyn et al. have it


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
