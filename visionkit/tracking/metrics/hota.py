"""HOTA (Luiten et al. 2021): detection, association and localization, over 19 thresholds of IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.tracking.metrics.pair import TrackPair

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Thresholds of IoU."""

_LEAST = float(np.finfo(np.float64).eps)
_TINY = 1e-10


@dataclass(frozen=True)
class Hota:
    """Sums over one sequence, or over several, each (19,) float64, one per threshold.

    Attributes:
        tp: Matched boxes.
        fp: Predicted boxes without a true one.
        fn: True boxes without a predicted one.
        association: Sum over matched boxes of how far their two tracks agree.
        association_recall: The same, the fraction of the true track.
        association_precision: The same, the fraction of the predicted track.
        overlap: Sum of the IoU of matched boxes.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    association: np.ndarray
    association_recall: np.ndarray
    association_precision: np.ndarray
    overlap: np.ndarray

    def plus(self, other: Hota) -> Hota:
        """The sums of both."""
        return Hota(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def curves(self) -> dict[str, np.ndarray]:
        """Each value at each threshold."""
        matched = np.maximum(1, self.tp)
        deta = self.tp / np.maximum(1, self.tp + self.fn + self.fp)
        assa = self.association / matched
        return {
            "hota": np.sqrt(deta * assa),
            "deta": deta,
            "assa": assa,
            "loca": np.maximum(_TINY, self.overlap) / np.maximum(_TINY, self.tp),
            "detre": self.tp / np.maximum(1, self.tp + self.fn),
            "detpr": self.tp / np.maximum(1, self.tp + self.fp),
            "assre": self.association_recall / matched,
            "asspr": self.association_precision / matched,
        }

    def values(self) -> dict[str, float]:
        """The means over all thresholds."""
        return {name: float(curve.mean()) for name, curve in self.curves().items()}


def hota(pair: TrackPair) -> Hota:
    """Matches boxes once by overlap and agreement of their tracks, then counts at every threshold."""
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

    lengths, predicted_lengths = pair.counts()
    agreement = _agreement(pair, lengths[:, None], predicted_lengths[None])
    owners, found, matched = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for true, predicted, overlaps in zip(pair.true, pair.predicted, pair.overlaps, strict=True):
        if overlaps.size:
            rows, columns = linear_sum_assignment(agreement[np.ix_(true, predicted)] * overlaps, maximize=True)
            owners.append(true[rows])
            found.append(predicted[columns])
            matched.append(overlaps[rows, columns])
    iou = np.concatenate(matched)
    pairs = np.concatenate(owners) * pair.predicted_tracks + np.concatenate(found)
    kept, numbers = np.unique(pairs, return_inverse=True)
    good = iou[None] >= ALPHAS[:, None] - _LEAST  # (19, matched boxes)
    counts = np.stack([np.bincount(numbers[row], minlength=len(kept)) for row in good])  # (19, pairs of tracks)
    own, theirs = np.divmod(kept, max(1, pair.predicted_tracks))
    length, other = lengths[own], predicted_lengths[theirs]
    tp = good.sum(axis=1).astype(np.float64)
    return Hota(
        tp=tp,
        fp=pair.predicted_boxes - tp,
        fn=pair.true_boxes - tp,
        association=(counts * counts / np.maximum(1, length + other - counts)).sum(axis=1),
        association_recall=(counts * counts / np.maximum(1, length)).sum(axis=1),
        association_precision=(counts * counts / np.maximum(1, other)).sum(axis=1),
        overlap=(good * iou).sum(axis=1),
    )


def _agreement(pair: TrackPair, lengths: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(true tracks, predicted tracks): how far two tracks agree over the whole sequence, by the overlap of boxes."""
    together = np.zeros((pair.true_tracks, pair.predicted_tracks))
    for true, predicted, overlaps in zip(pair.true, pair.predicted, pair.overlaps, strict=True):
        sums = overlaps.sum(axis=0)[None] + overlaps.sum(axis=1)[:, None] - overlaps
        alike = np.divide(overlaps, sums, out=np.zeros_like(overlaps), where=sums > _LEAST)
        together[true[:, None], predicted[None]] += alike
    agreement: np.ndarray = together / (lengths + others - together)
    return agreement
