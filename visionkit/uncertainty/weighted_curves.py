"""Precision-recall curves of weighted images, for many replicates at once."""

from __future__ import annotations

import numpy as np

_LEAST = 1e-12


def interpolated_precision(
    weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, number: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """(r,) average precision: the mean over recalls of the highest precision that reaches them.

    Args:
        weights: (r, n) weight of each found object, the highest-scoring first.
        right: (n,) bool.
        wrong: (n,) bool.
        number: (r,) weighted number of true objects.
        points: (P,) recalls, rising from 0.
    """
    at = np.flatnonzero(right)  # precision is highest at a right one
    if not len(at):
        return np.zeros(len(weights))
    hits, precision = _curve(weights, at, wrong)
    place = np.searchsorted(points, hits / np.maximum(number, _LEAST)[:, None], side="right") - 1
    table = np.zeros((len(weights), len(points)))
    cells = np.arange(len(weights))[:, None] * len(points) + place
    np.maximum.at(table.reshape(-1), cells.ravel(), precision.ravel())
    return np.asarray(np.maximum.accumulate(table[:, ::-1], axis=1).mean(axis=1))


def area_precision(weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(r,) area under the curve whose precision never rises with recall; arguments as in `interpolated_precision`."""
    at = np.flatnonzero(right)
    if not len(at):
        return np.zeros(len(weights))
    hits, precision = _curve(weights, at, wrong)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((np.diff(hits, axis=1, prepend=0.0) * highest).sum(axis=1) / np.maximum(number, _LEAST))


def _curve(weights: np.ndarray, at: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(r, h) weighted hits and precision at each right object."""
    hits = weights[:, at].cumsum(axis=1)
    misses = (weights * wrong).cumsum(axis=1)[:, at]
    return hits, hits / np.maximum(hits + misses, _LEAST)


def mean_over(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(r,) means over the classes that are there, NaN without any.

    Args:
        values: (r, K).
        there: (r, K) bool.
    """
    count = there.sum(axis=1)
    return np.where(count > 0, np.where(there, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
