"""The metrics of several labels per image, of images with weights."""

from __future__ import annotations

import numpy as np


class WeightedLabels:
    """`map`, `f1_macro` and `exact_match` of weighted images; an image of weight 2 counts as two images.

    Args:
        scores: (N, K) probabilities.
        truth: (N, K) bool.
        threshold: The probability from which a label holds.
    """

    def __init__(self, scores: np.ndarray, truth: np.ndarray, threshold: float) -> None:
        self.scores, self.truth, self.threshold = scores, truth, threshold

    def joined(self, other: WeightedLabels) -> WeightedLabels:
        """One for the images of both."""
        scores, truth = (np.concatenate(pair) for pair in ((self.scores, other.scores), (self.truth, other.truth)))
        return WeightedLabels(scores, truth, self.threshold)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name."""
        claimed = self.scores >= self.threshold
        hits = weights @ (claimed & self.truth).astype(np.float64)
        wrong = weights @ (claimed ^ self.truth).astype(np.float64)
        exact = weights @ (claimed == self.truth).all(axis=1).astype(np.float64)
        there = weights @ self.truth.astype(np.float64) > 0
        precision = np.stack([self._average(k, weights) for k in range(self.scores.shape[1])], axis=1)
        return {
            "map": _mean(precision, there),
            "f1_macro": _mean(2 * hits / np.maximum(2 * hits + wrong, 1e-12), hits + wrong > 0),
            "exact_match": exact / np.maximum(weights.sum(axis=1), 1e-12),
        }

    def _average(self, k: int, weights: np.ndarray) -> np.ndarray:
        """(r,) average precision of one class; images of equal scores are one step of the curve."""
        order = np.argsort(-self.scores[:, k], kind="stable")
        falling = self.scores[order, k]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        own = weights[:, order]
        hits, seen = (own * self.truth[order, k]).cumsum(axis=1)[:, ends], own.cumsum(axis=1)[:, ends]
        steps = np.diff(hits, axis=1, prepend=0.0) / np.maximum(hits[:, -1:], 1e-12)
        return np.asarray((steps * hits / np.maximum(seen, 1e-12)).sum(axis=1))


def _mean(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.asarray((values * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
