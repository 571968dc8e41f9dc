"""Disparity without a network: OpenCV's semi-global block matching, the floor that networks are measured beside."""

from __future__ import annotations

import numpy as np

from visionkit.errors import UsageError


def block_matching(left: np.ndarray, right: np.ndarray, max_disparity: int = 64, block: int = 5) -> np.ndarray:
    """Semi-global block matching (Hirschmüller, 2008) with OpenCV's left-right check and speckle filter.

    Args:
        left: (h, w) or (h, w, 3) uint8.
        right: The same of the right image.
        max_disparity: Number of disparities, a multiple of 16.
        block: Odd side of the blocks in pixels.

    Returns:
        (h, w) float32 pixels; 0 where it states none.

    Raises:
        UsageError: The number of disparities is no multiple of 16, or the block has an even side.
    """
    import cv2

    if max_disparity < 16 or max_disparity % 16 or block % 2 == 0:
        raise UsageError(f"max_disparity {max_disparity} and block {block}: give a multiple of 16 and an odd number")
    channels = 1 if left.ndim == 2 else left.shape[2]
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=max_disparity,
        blockSize=block,
        P1=8 * channels * block**2,
        P2=32 * channels * block**2,
        disp12MaxDiff=1,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
    )
    found = matcher.compute(np.ascontiguousarray(left), np.ascontiguousarray(right)).astype(np.float32) / 16
    return np.maximum(found, 0)


def filled(disparity: np.ndarray) -> np.ndarray:
    """Holes get the smaller one of the next values at their left and right, which is mostly the background.

    Args:
        disparity: (h, w) float32; 0 is a hole. A row of holes stays as it is.
    """
    known = disparity > 0
    line, width = np.arange(disparity.shape[1]), disparity.shape[1]
    before = np.maximum.accumulate(np.where(known, line, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, line, width)[:, ::-1], axis=1)[:, ::-1]
    sides = [
        np.where(there, np.take_along_axis(disparity, place.clip(0, width - 1), axis=1), np.inf)
        for place, there in ((before, before >= 0), (after, after < width))
    ]
    nearest = np.minimum(*sides)
    return np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
