"""Overlaps of boxes in numpy, in the digits of whatever computed them."""

from __future__ import annotations

import numpy as np

_LEAST = float(np.finfo(np.float64).eps)


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        others: (M, 4).

    Returns:
        (N, M) float64; 0 with a box that has no area.
    """
    overlap, areas = _overlaps(boxes, others)
    unions = areas[:, None] + _areas(others)[None] - overlap
    ious: np.ndarray = np.divide(overlap, unions, out=np.zeros_like(overlap), where=(unions > _LEAST) & (overlap > 0))
    return ious


def covered_fractions(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The fraction of each box that lies in each region.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        regions: (M, 4).

    Returns:
        (N, M) float64; 0 for a box without area.
    """
    overlap, areas = _overlaps(boxes, regions)
    fractions: np.ndarray = np.divide(
        overlap, areas[:, None], out=np.zeros_like(overlap), where=areas[:, None] > _LEAST
    )
    return fractions


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    np.maximum(sides, 0, out=sides)
    return sides[..., 0] * sides[..., 1], _areas(boxes)


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2], 0)
    areas: np.ndarray = sides[:, 0] * sides[:, 1]
    return areas
