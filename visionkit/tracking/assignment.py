"""One-to-one assignment of tracks to detections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Assigned(NamedTuple):
    """Rows and columns that belong together, and those that are alone.

    Attributes:
        rows: (K,) tracks.
        columns: (K,) their detections.
        free_rows: Tracks without a detection, ascending.
        free_columns: Detections without a track, ascending.
    """

    rows: np.ndarray
    columns: np.ndarray
    free_rows: np.ndarray
    free_columns: np.ndarray


def assign(scores: np.ndarray, allowed: np.ndarray) -> Assigned:
    """The assignment of the largest sum, without the pairs that are not allowed.

    Args:
        scores: (N, M) how well a track and a detection fit.
        allowed: (N, M) bool, pairs that may be assigned; the others are taken out after the assignment.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

    count, others = scores.shape
    rows, columns = linear_sum_assignment(scores, maximize=True)
    kept = allowed[rows, columns]
    rows, columns = rows[kept], columns[kept]
    free, free_columns = np.ones(count, bool), np.ones(others, bool)
    free[rows], free_columns[columns] = False, False
    return Assigned(rows, columns, np.flatnonzero(free), np.flatnonzero(free_columns))


def assign_above(scores: np.ndarray, least: float) -> Assigned:
    """The assignment whose sum of `score - least` is the largest: a pair below `least` never displaces one above.

    Args:
        scores: (N, M).
        least: Lowest score of a pair.
    """
    return assign(np.maximum(scores - least, 0), scores > least)
