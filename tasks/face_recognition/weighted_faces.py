"""Verification and identification of people with weights: a person of weight 2 counts as two people.

What is drawn are people, not pairs: all pairs that one person is in depend on each other, so intervals of pairs that
are drawn by themselves are too short (Fogliato et al., 2024). A pair of two people counts the product of their weights,
as in the bootstrap of the vertices of a graph (Snijders and Borgatti, 1999).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.face_recognition.identification import Ranking
from tasks.face_recognition.verification import FALSE_ACCEPT_RATES, MIN_FALSE_ACCEPTS, Roc, ten_fold
from visionkit.uncertainty.by_image import by_name

OPEN_SET_RATES = (0.1, 0.01)

MAX_PAIRS = 1_000_000
"""Pairs up to which verification is resampled; 1000 replicates of a million take minutes."""


class Pairs(NamedTuple):
    """Pairs of images that are compared.

    Attributes:
        scores: (P,) float64, the higher, the more alike.
        same: (P,) bool, both images are of one person.
        folds: (P,) fold of each pair.
        first: (P,) number of the first image.
        second: (P,) number of the second image.
    """

    scores: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def can_be_verified(self) -> bool:
        """Whether there are two pairs of each type."""
        return bool(self.same.sum() >= 2 and (~self.same).sum() >= 2)

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """(P,) weights of pairs: a person's own, and for two people the product.

        Two copies of a person are two people, who are not compared with each other.

        Args:
            weights: (N,) of the images, equal for those of one person.
        """
        own = weights[self.first]
        return np.asarray(np.where(self.same, own, own * weights[self.second]))

    def some(self, rows: np.ndarray) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(each[rows] for each in self))


class Probes(NamedTuple):
    """Who is identified.

    Attributes:
        ranking: What comparing the probes with the gallery gave.
        rows: (Q,) number of each probe's image.
    """

    ranking: Ranking
    rows: np.ndarray


class WeightedFaces:
    """The metrics of one split, of people with weights.

    Identification draws the people that are asked for, and the gallery stays as it is: one of drawn people would have
    fewer different ones, in which everybody is found more easily.

    Args:
        pairs: Pairs that are verified.
        probes: Who is identified, or None.
    """

    def __init__(self, pairs: Pairs, probes: Probes | None) -> None:
        falling = pairs.some(np.argsort(-pairs.scores, kind="stable"))  # sorted once, not in each replicate
        self.pairs, self.probes = falling, probes

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        return by_name([{**self._verified(each), **self._ranked(each)} for each in weights])

    def _verified(self, weights: np.ndarray) -> dict[str, float]:
        if not self.pairs.can_be_verified or len(self.pairs.scores) > MAX_PAIRS:
            return {}
        return weighted_verification(self.pairs, self.pairs.weights(weights))

    def _ranked(self, weights: np.ndarray) -> dict[str, float]:
        if self.probes is None:
            return {}
        ranking, own = self.probes.ranking, weights[self.probes.rows]
        if not own[ranking.first >= 0].any():
            return {}
        out = {"rank1": ranking.rank(1, own), "rank5": ranking.rank(5, own), "map": ranking.average_precision(own)}
        for rate in OPEN_SET_RATES:
            if ranking.supports(rate) and own[ranking.impostors].any():
                out[f"dir_at_far_{power(rate)}"] = ranking.open_set(rate, own)
        return out


class WeightedVerification:
    """Verification from scores of pairs that are drawn by themselves.

    Args:
        scores: (P,) the higher, the more alike.
        same: (P,) bool.
        folds: (P,) fold of each pair.
    """

    def __init__(self, scores: np.ndarray, same: np.ndarray, folds: np.ndarray) -> None:
        numbers = np.arange(len(scores))
        self.pairs = Pairs(scores, same, folds, numbers, numbers)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, P) weights to (r,) values by name, NaN where there is nothing to measure."""
        return by_name([weighted_verification(self.pairs, each) for each in weights])


def weighted_verification(pairs: Pairs, weights: np.ndarray) -> dict[str, float]:
    """The measures of verification; none where pairs of one type alone have a weight.

    Args:
        pairs: All pairs.
        weights: (P,) weight of each.
    """
    drawn, own = pairs.some(weights > 0), weights[weights > 0]
    if not (drawn.same.any() and (~drawn.same).any()):
        return {}
    roc = Roc.of(drawn.scores, drawn.same, own)
    out = {"eer": roc.equal_error_rate, "auc": roc.area}
    if len(np.unique(drawn.folds)) > 1:
        out["accuracy"] = ten_fold(drawn.scores, drawn.same, drawn.folds, own).mean
    different = int((~pairs.same).sum())
    for rate in FALSE_ACCEPT_RATES:
        if different * rate >= MIN_FALSE_ACCEPTS:
            out[f"tar_at_far_{power(rate)}"] = float(roc.tar[np.searchsorted(roc.far, rate, side="right") - 1])
    return out


def power(rate: float) -> str:
    """A rate as names of metrics have it: `1e-2`."""
    return f"1e-{round(-np.log10(rate))}"
