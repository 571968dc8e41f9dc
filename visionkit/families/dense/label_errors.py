"""What is wrong with a label map: boundaries off by little, small segments lost, and classes confused."""

from __future__ import annotations

import numpy as np

from visionkit.families.dense.error_parts import beside, near
from visionkit.types import IGNORE

KINDS = ("boundary", "small", "confusion")
"""Kinds of wrong pixels; in a map of kinds they are 1, 2 and 3, and 0 is right or not counted."""

SMALL = 32**2
"""Pixels below which a segment is small."""

TOLERANCE = 0.0075
"""Fraction of the diagonal that a boundary may be off, as boundary F1 has it."""

MEANINGS = {
    "boundary": f"within {TOLERANCE:.2%} of the diagonal of a true boundary, where the segment itself was found",
    "small": f"in a segment of less than {SMALL:,} pixels of which less than half is right",
    "confusion": "any other",
}


def label_errors(predicted: np.ndarray, truth: np.ndarray, classes: int, tolerance: float = TOLERANCE) -> np.ndarray:
    """Attributes every wrong pixel to one kind.

    Where less than half of a true segment (8-connected pixels of one class) is right, its wrong pixels are `small` or,
    in a larger segment, `confusion`. Elsewhere a connected area that is taken for one other class is a `boundary` error
    where all of it lies near a true boundary, and `confusion` otherwise.

    Args:
        predicted: (h, w) integers; what names no class is not counted.
        truth: (h, w) integers; 255, and what names no class, is not counted.
        classes: K.
        tolerance: Fraction of the diagonal; at least one pixel.

    Returns:
        (h, w) uint8, see `KINDS`.
    """
    import cv2

    known = _known(truth, classes) & _known(predicted, classes)
    wrong = known & (predicted != truth)
    out = np.zeros(truth.shape, dtype=np.uint8)
    if not wrong.any():
        return out
    lost = np.zeros(truth.shape, dtype=np.uint8)
    for label in np.unique(truth[wrong]).tolist():
        _, segments = cv2.connectedComponents(((truth == label) & known).astype(np.uint8), connectivity=8)
        areas = np.bincount(segments.ravel())
        right = np.bincount(segments.ravel(), weights=(known & ~wrong).ravel())
        kinds = np.where(2 * right < areas, np.where(areas < SMALL, _number("small"), _number("confusion")), 0)
        kinds[0] = 0
        lost += kinds.astype(np.uint8)[segments]
    out[wrong] = lost[wrong]
    left = wrong & (lost == 0)
    close = near(beside(lambda one, other: truth[one] != truth[other], known), tolerance)
    pairs = np.where(left, truth.astype(np.int64) * classes + predicted, -1)
    for pair in np.unique(pairs[left]).tolist():
        _, areas_of = cv2.connectedComponents((pairs == pair).astype(np.uint8), connectivity=8)
        leaves = np.bincount(areas_of.ravel(), weights=(~close).ravel()) > 0
        here = areas_of > 0
        out[here] = np.where(leaves[areas_of[here]], _number("confusion"), _number("boundary"))
    return out


def _known(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.asarray((labels >= 0) & (labels < classes) & (labels != IGNORE))


def _number(kind: str) -> int:
    return KINDS.index(kind) + 1
