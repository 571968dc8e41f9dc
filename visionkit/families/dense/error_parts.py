"""How errors of pixels are distributed over parts of images: ranges of the truth, edges against flat surfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

EDGE_REACH = 0.0075
"""Fraction of the diagonal that a pixel at an edge is away from it, at most."""


@dataclass(eq=False)
class ErrorParts:
    """Sums over pixels of some measures, for each of several parts.

    Attributes:
        sums: For each part its pixels, the sum of its squared errors, and the sums of the measures.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def add(self, parts: Mapping[str, np.ndarray], error: np.ndarray, measures: Mapping[str, np.ndarray]) -> None:
        """Adds an image.

        Args:
            parts: For each part (n,) bool.
            error: (n,) errors.
            measures: Further values of each pixel by name, (n,) each, whose means are stated.
        """
        self.names = tuple(measures)
        values = np.stack([np.ones_like(error), np.square(error), *measures.values()])
        for name, here in parts.items():
            before = self.sums.get(name, np.zeros(len(values)))
            self.sums[name] = before + values[:, here].sum(axis=1)

    def rows(self, title: str) -> list[dict[str, Any]]:
        """One row per part that has pixels: its fraction of them and of the squared error, and means.

        Args:
            title: Name of the first column.
        """
        if not self.sums:
            return []
        total = np.sum(list(self.sums.values()), axis=0)
        return [
            {
                title: name,
                "of all pixels": float(part[0] / total[0]),
                "of squared error": float(part[1] / total[1]) if total[1] else 0.0,
                **{key: float(value / part[0]) for key, value in zip(self.names, part[2:], strict=True)},
            }
            for name, part in self.sums.items()
            if part[0]
        ]


def by_range(values: np.ndarray, edges: Sequence[float], unit: str) -> dict[str, np.ndarray]:
    """Pixels by the range that their true value lies in; the last range is open.

    Args:
        values: (n,) true values.
        edges: Lower ends of the ranges, rising.
        unit: Unit of the values.
    """
    at = np.searchsorted(edges, values, side="right") - 1
    names = [f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges)]
    return {name: at == k for k, name in enumerate([*names, f"from {edges[-1]:g} {unit}"])}


def edge_mask(values: np.ndarray, known: np.ndarray, step: float, relative: bool) -> np.ndarray:
    """Pixels near a jump of the truth between two neighbors that are both known.

    Args:
        values: (h, w), or (C, h, w) whose differences are lengths.
        known: (h, w) bool.
        step: Least difference that is a jump.
        relative: The step is a fraction of the smaller of both values.

    Returns:
        (h, w) bool: at most `EDGE_REACH` of the diagonal, and at least one pixel, from it.
    """
    planes = (values[None] if values.ndim == 2 else values).astype(np.float64)

    def jumps(one: Any, other: Any) -> np.ndarray:
        a, b = planes[(slice(None), *one)], planes[(slice(None), *other)]
        least = step * np.minimum(np.abs(a), np.abs(b)).sum(axis=0) if relative else step
        return np.asarray(np.sqrt(np.square(a - b).sum(axis=0)) > least)

    return near(beside(jumps, known), EDGE_REACH)


def near(marked: np.ndarray, tolerance: float) -> np.ndarray:
    """Pixels near marked ones.

    Args:
        marked: (h, w) bool.
        tolerance: Fraction of the diagonal that a pixel is away from a marked one, at most; at least one pixel.
    """
    import cv2

    if not marked.any():
        return marked
    reach = max(1.0, tolerance * float(np.hypot(*marked.shape)))
    return np.asarray(cv2.distanceTransform((~marked).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach)


def beside(differ: Callable[[Any, Any], np.ndarray], known: np.ndarray) -> np.ndarray:
    """Pixels that differ from a neighbor below, above, to the left or to the right; both are known.

    Args:
        differ: Takes two slices of images, those of pixels and of their neighbors, and gives (h', w') bool.
        known: (h, w) bool.
    """
    out = np.zeros(known.shape, dtype=bool)
    for one, other in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        here = known[one] & known[other] & differ(one, other)
        out[one] |= here
        out[other] |= here
    return out
