"""Are two images of one person? ROC, equal error rate, TAR at FAR and the ten-fold protocol, from pairs of scores.

Everything is float64 on the CPU and exact: thresholds lie at the scores themselves, nothing is binned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FALSE_ACCEPT_RATES = (0.1, 0.01, 0.001, 0.0001)
MIN_FALSE_ACCEPTS = 10
"""A rate is only stated where so many pairs would be falsely accepted at it; fewer state hardly anything about it."""

FOLDS = 10


@dataclass(frozen=True)
class Roc:
    """The curve, from the strictest threshold to the most lenient one.

    Attributes:
        far: (T,) false-accept rate: the fraction of pairs of different people at or above the threshold.
        tar: (T,) true-accept rate: the fraction of pairs of one person.
        thresholds: (T,) scores, falling; the first is infinite and accepts nothing.
        same: Pairs of one person.
        different: Pairs of different people.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    same: int
    different: int

    @classmethod
    def of(cls, scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None) -> Roc:
        """The curve with one point a distinct score.

        Args:
            scores: (P,) the higher, the more alike.
            same: (P,) bool.
            weights: (P,) how often each pair counts; by default once.
        """
        scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
        order = np.argsort(-scores, kind="stable")
        scores, same = scores[order], same[order]
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # the last of equal scores: they pass together
        tar, far = _accepted(same, last, None if weights is None else weights[order])
        return cls(
            np.concatenate([[0.0], far]),
            np.concatenate([[0.0], tar]),
            np.concatenate([[np.inf], scores[last]]),
            int(same.sum()),
            int((~same).sum()),
        )

    @property
    def equal_error_rate(self) -> float:
        """Where as many pairs of one person are refused as pairs of different ones accepted, between points linear."""
        gap = (1 - self.tar) - self.far  # falls from 1 to -1
        after = int(np.argmax(gap <= 0))
        before = after - 1
        fraction = gap[before] / (gap[before] - gap[after])
        return float(self.far[before] + fraction * (self.far[after] - self.far[before]))

    @property
    def area(self) -> float:
        """Area under the curve."""
        return float(np.trapezoid(self.tar, self.far))

    def supports(self, rate: float) -> bool:
        """Whether there are enough pairs of different people to state a rate at all."""
        return self.different * rate >= MIN_FALSE_ACCEPTS

    def at(self, rate: float) -> tuple[float, float]:
        """True-accept rate and threshold at a false-accept rate that is not exceeded.

        Args:
            rate: False-accept rate.

        Raises:
            ValueError: Too few pairs of different people to state.
        """
        if not self.supports(rate):
            raise ValueError(
                f"{self.different} pairs of different people cannot support a false-accept rate of {rate:g}"
            )
        index = int(np.searchsorted(self.far, rate, side="right")) - 1
        return float(self.tar[index]), float(self.thresholds[index])


@dataclass(frozen=True)
class TenFold:
    """Accuracy of the ten-fold protocol.

    Attributes:
        mean: Over the folds.
        deviation: Standard deviation over the folds.
        threshold: Mean over the folds.
    """

    mean: float
    deviation: float
    threshold: float


def _accepted(same: np.ndarray, last: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of the pairs of one person, and of the others, that lie up to some rows."""
    weighted = (same, ~same) if weights is None else (same * weights, ~same * weights)
    sums = [np.cumsum(each, dtype=np.float64) for each in weighted]
    tar, far = (each[last] / (each[-1] if len(each) and each[-1] > 0 else 1.0) for each in sums)
    return tar, far


def ten_fold(scores: np.ndarray, same: np.ndarray, folds: np.ndarray, weights: np.ndarray | None = None) -> TenFold:
    """Each fold is judged by the threshold that was best on the others (Huang et al., 2007).

    Pairs of one person and pairs of different people weigh the same in all, whatever their numbers: in LFW's list they
    are as many, so there it is the plain fraction of correct predictions.

    Args:
        scores: (P,) the higher, the more alike; a pair is accepted from the threshold on.
        same: (P,) bool.
        folds: (P,) int, the fold of each pair, with pairs of both types in every fold.
        weights: (P,) how often each pair counts; by default once.
    """
    scores, same, folds = np.asarray(scores, np.float64), np.asarray(same, bool), np.asarray(folds)
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    scores, same, folds, weights = scores[order], same[order], folds[order], weights[order]
    accuracies, thresholds = [], []
    for fold in np.unique(folds):
        rest = folds != fold
        threshold = best_threshold(scores[rest], same[rest], weights[rest])
        accepted = scores[~rest] >= threshold
        accuracies.append(_balanced(accepted, same[~rest], weights[~rest]))
        thresholds.append(threshold)
    return TenFold(float(np.mean(accuracies)), float(np.std(accuracies)), float(np.mean(thresholds)))


def best_threshold(scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The threshold of highest accuracy, both types of pairs weighing the same.

    Args:
        scores: (P,) falling.
        same: (P,) bool.
        weights: (P,) how often each pair counts; by default once.

    Returns:
        The middle between two neighboring scores; of several equally good ones that in the middle.
    """
    ends = np.flatnonzero(np.diff(scores))  # between these and the next a threshold can lie
    tar, far = _accepted(same, ends, weights)
    if len(ends) == 0:
        return float(scores[0])
    gain = tar - far
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    end = ends[best[len(best) // 2]]
    return float((scores[end] + scores[end + 1]) / 2)


def _balanced(accepted: np.ndarray, same: np.ndarray, weights: np.ndarray) -> float:
    right = accepted == same
    return float(np.mean([np.average(right[each], weights=weights[each]) for each in (same, ~same) if each.any()]))


def deal(same: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """Deals pairs to folds in turn, those of one person and those of different people each for themselves.

    Args:
        same: (P,) bool.
        folds: At most so many; fewer where one type has fewer pairs.

    Returns:
        (P,) int64 fold of each pair.
    """
    folds = min(folds, int(same.sum()), int((~same).sum()))
    out = np.zeros(len(same), np.int64)
    for kind in (same, ~same):
        out[kind] = np.arange(kind.sum()) % max(1, folds)
    return out
