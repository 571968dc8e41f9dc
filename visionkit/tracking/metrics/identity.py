"""IDF1, IDP and IDR (Ristani et al. 2016): boxes of the right identity under the best one-to-one pairing of tracks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visionkit.tracking.metrics.pair import Convention, TrackPair, fraction


class Identity(NamedTuple):
    """Counts of one sequence, or of several that were added up.

    Attributes:
        tp: Boxes whose predicted track is the one paired with the true track.
        fp: Other predicted boxes.
        fn: Other true boxes.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def plus(self, other: Identity) -> Identity:
        """The counts of both."""
        return Identity(*(a + b for a, b in zip(self, other, strict=True)))

    def values(self, convention: Convention) -> dict[str, float]:
        """IDF1, IDP and IDR."""
        return {
            "idf1": fraction(self.tp, self.tp + 0.5 * self.fp + 0.5 * self.fn, convention),
            "idp": fraction(self.tp, self.tp + self.fp, convention),
            "idr": fraction(self.tp, self.tp + self.fn, convention),
        }


def identity(pair: TrackPair, convention: Convention = "trackeval", threshold: float = 0.5) -> Identity:
    """Pairs whole tracks so that the most boxes agree.

    Args:
        pair: The tracks.
        convention: The tools agree up to the last digit of the threshold.
        threshold: Smallest IoU of boxes that agree.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

    together = np.zeros((pair.true_tracks, pair.predicted_tracks))
    for true, predicted, overlaps in zip(pair.true, pair.predicted, pair.overlaps, strict=True):
        good = overlaps >= threshold if convention == "trackeval" else 1 - overlaps <= 1 - threshold
        rows, columns = np.nonzero(good)
        together[true[rows], predicted[columns]] += 1
    rows, columns = linear_sum_assignment(together, maximize=True)
    right = int(together[rows, columns].sum())
    return Identity(right, pair.predicted_boxes - right, pair.true_boxes - right)
