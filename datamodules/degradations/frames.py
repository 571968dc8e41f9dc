"""Blur of a camera or of things that move, from the sharp frames of a video."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from visionkit.errors import DataError

GAMMA = 2.2


def average_frames(frames: Iterable[np.ndarray], gamma: float = GAMMA, name: str = "frames") -> np.ndarray:
    """What a long exposure over some frames shows (Nah et al., 2017): their mean in linear light.

    Args:
        frames: (h, w, C) uint8 each, all of one size.
        gamma: Exponent that takes gray levels to light; a camera's response is about 2.2, and 1 averages gray levels.
        name: Names the frames in messages.

    Returns:
        (h, w, C) uint8, rounded.

    Raises:
        DataError: Frames of different sizes, or none.
    """
    light = ((np.arange(256) / 255) ** gamma).astype(np.float32)
    total: np.ndarray | None = None
    count = 0
    for frame in frames:
        if total is None:
            total = np.zeros(frame.shape, np.float32)
        if frame.shape != total.shape:
            (h, w), (height, width) = frame.shape[:2], total.shape[:2]
            raise DataError(f"{name}: a frame of {w}x{h} pixels among frames of {width}x{height}; they need one size")
        total += light[frame]
        count += 1
    if total is None:
        raise DataError(f"{name}: no frames to average")
    levels = 255 * (total / count) ** np.float32(1 / gamma)
    return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)
