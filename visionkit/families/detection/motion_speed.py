"""How fast an object of a video moves, as the evaluation of video detectors has it (Zhu et al., 2017: FGFA)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SPEEDS: Mapping[str, tuple[float, float]] = {"slow": (0.9, np.inf), "medium": (0.7, 0.9), "fast": (-np.inf, 0.7)}
"""Mean overlap of an object with itself in the frames around it: above .9 is slow, from .7 to .9 medium, below fast."""

REACH = 10
"""Frames before and after that are compared."""


def motion_ious(frames: np.ndarray, ids: np.ndarray, boxes: np.ndarray, reach: int = REACH) -> np.ndarray:
    """(N,) mean IoU of each object with itself in the frames around it; NaN where it is in none of them.

    Args:
        frames: (N,) int, frame of each row of one sequence.
        ids: (N,) int, which object it is.
        boxes: (N, 4).
        reach: Frames before and after that are compared.

    Example:
        >>> motion_ious(np.array([0, 1]), np.array([5, 5]), np.array([[0, 0, 10, 10], [0, 0, 10, 5]]))
        array([0.5, 0.5])
    """
    sums, counts = np.zeros(len(frames)), np.zeros(len(frames), np.int64)
    order = np.lexsort((frames, ids))
    areas = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(axis=-1)
    for step in range(1, reach + 1):  # in this order, an object in the next frames is at most so far behind
        first, second = order[:-step], order[step:]
        apart = frames[second] - frames[first]
        near = (ids[first] == ids[second]) & (apart > 0) & (apart <= reach)
        first, second = first[near], second[near]
        one, other = boxes[first].astype(np.float64), boxes[second].astype(np.float64)
        shared = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
        overlap = shared.clip(min=0).prod(axis=-1)
        ious = overlap / np.maximum(areas[first] + areas[second] - overlap, 1e-9)
        for rows in (first, second):
            np.add.at(sums, rows, ious)
            np.add.at(counts, rows, 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def of_speed(motion: np.ndarray, speed: str) -> np.ndarray:
    """(N,) bool, the objects of one speed; those of an unknown one are of none.

    Args:
        motion: What `motion_ious` gave.
        speed: One of `SPEEDS`.
    """
    low, high = SPEEDS[speed]
    if speed == "medium":
        return np.asarray((motion >= low) & (motion <= high))
    return np.asarray((motion > low) & (motion < high))
