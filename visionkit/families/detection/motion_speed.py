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
    out = np.full(len(frames), np.nan)
    for number in np.unique(ids):
        rows = np.flatnonzero(ids == number)
        own = boxes[rows].astype(np.float64)
        shared = np.minimum(own[:, None, 2:], own[None, :, 2:]) - np.maximum(own[:, None, :2], own[None, :, :2])
        overlap = shared.clip(min=0).prod(axis=-1)
        areas = (own[:, 2:] - own[:, :2]).prod(axis=-1)
        ious = overlap / np.maximum(areas[:, None] + areas[None] - overlap, 1e-9)
        apart = np.abs(frames[rows][:, None] - frames[rows][None])
        near = (apart > 0) & (apart <= reach)
        counts = near.sum(axis=1)
        out[rows] = np.where(counts > 0, (ious * near).sum(axis=1) / np.maximum(counts, 1), np.nan)
    return out


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
