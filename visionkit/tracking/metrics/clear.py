"""CLEAR MOT (Bernardin and Stiefelhagen 2008): misses, false positives, changes of identity; MOTA and MOTP of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from visionkit.tracking.metrics.pair import Convention, TrackPair, fraction

_LEAST = float(np.finfo(np.float64).eps)
_KEPT = 1000.0
"""What a pair that goes on is worth beside any sum of overlaps."""

_BEYOND = 1e6
"""Cost of a pair that is not allowed."""


class Clear(NamedTuple):
    """Counts of one sequence, or of several that were added up.

    Attributes:
        tp: Matched boxes.
        fp: Predicted boxes without a true one.
        fn: True boxes without a predicted one.
        ids: Changes of identity: a true object is matched to another predicted track than the last time.
        fm: Fragmentations: a true object is matched again after it was not.
        mt: True objects that are matched in 80 % of their frames, mostly tracked.
        pt: True objects between, partially tracked.
        ml: True objects that are matched in less than 20 %, mostly lost.
        overlap: Sum of the IoU of matched boxes.
        of_one: The counts are one sequence's.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    ids: int = 0
    fm: int = 0
    mt: int = 0
    pt: int = 0
    ml: int = 0
    overlap: float = 0.0
    of_one: bool = False

    def plus(self, other: Clear) -> Clear:
        """The counts of both."""
        sums: list[Any] = [a + b for a, b in zip(self[:-1], other[:-1], strict=True)]
        return Clear(*sums)

    def values(self, convention: Convention) -> dict[str, float]:
        """MOTA, MOTP (mean IoU of matched boxes), recall, precision and the counts."""
        true = self.tp + self.fn
        mota = fraction(self.tp - self.fp - self.ids, true, convention)
        if convention == "motmetrics":
            mota = 1 - fraction(self.fn + self.fp + self.ids, true, convention)
        elif self.of_one and not true:
            mota = 0.0  # as trackeval has it for a sequence without a true box, not for a sum of sequences
        return {
            "mota": mota,
            "motp": fraction(self.overlap, self.tp, convention),
            "recall": fraction(self.tp, true, convention),
            "precision": fraction(self.tp, self.tp + self.fp, convention),
            **{name: float(getattr(self, name)) for name in ("fp", "fn", "ids", "fm", "mt", "pt", "ml")},
        }


def clear(pair: TrackPair, convention: Convention = "trackeval", threshold: float = 0.5) -> Clear:
    """Matches true and predicted boxes frame by frame, keeping pairs that go on, and counts what happens.

    Args:
        pair: The tracks.
        convention: Which pairs go on, and how the counts are defined; see `Convention`.
        threshold: Smallest IoU of a match.
    """
    if pair.is_bare:
        return Clear(fp=pair.predicted_boxes, fn=pair.true_boxes, ml=pair.true_tracks, of_one=True)
    return _counter(pair, convention, threshold).run()


class Matched(NamedTuple):
    """The matches of one frame.

    Attributes:
        true: (n,) true tracks in it.
        predicted: (m,) predicted tracks in it.
        owners: (k,) true tracks that are matched.
        found: (k,) predicted tracks that they are matched to.
        before: (k,) predicted tracks that they were matched to the last time, -1 where there was none.
    """

    true: np.ndarray
    predicted: np.ndarray
    owners: np.ndarray
    found: np.ndarray
    before: np.ndarray


def matches(pair: TrackPair, convention: Convention = "trackeval", threshold: float = 0.5) -> Iterator[Matched]:
    """The matches that are counted, frame by frame.

    Args:
        pair: The tracks.
        convention: See `clear`.
        threshold: Smallest IoU of a match.
    """
    counter = _counter(pair, convention, threshold)
    for true, predicted, rows, columns in counter.pairs():
        yield Matched(true, predicted, true[rows], predicted[columns], counter.before)


def _counter(pair: TrackPair, convention: Convention, threshold: float) -> _Counter:
    return (_Trackeval if convention == "trackeval" else _Motmetrics)(pair, threshold)


class _Counter:
    """Goes through the frames; a subclass states how pairs go on and what a fragmentation is."""

    def __init__(self, pair: TrackPair, threshold: float) -> None:
        self.pair, self.threshold = pair, threshold
        self.last = np.full(pair.true_tracks, -1)  # the predicted track that a true one had last
        self.before = np.zeros(0, np.int64)  # that of the true tracks matched in this frame, before it
        self.matched = np.zeros(pair.true_tracks, np.int64)
        self.breaks = np.zeros(pair.true_tracks, np.int64)
        self.ids, self.tp, self.overlap = 0, 0, 0.0

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """For each frame its true and predicted tracks, and rows and columns of those that are matched."""
        pair = self.pair
        for true, predicted, overlaps in zip(pair.true, pair.predicted, pair.overlaps, strict=True):
            rows, columns = self.frame(true, predicted, overlaps)
            self.before = self.last[true[rows]]
            self.last[true[rows]] = predicted[columns]
            yield true, predicted, rows, columns

    def run(self) -> Clear:
        """The counts."""
        pair = self.pair
        for (true, predicted, rows, columns), overlaps in zip(self.pairs(), pair.overlaps, strict=True):
            owners = true[rows]
            self.ids += int(((self.before >= 0) & (self.before != predicted[columns])).sum())
            self.matched[owners] += 1
            self.tp += len(rows)
            self.overlap += float(overlaps[rows, columns].sum())
        lengths, _ = pair.counts()
        ratios = self.matched[lengths > 0] / lengths[lengths > 0]
        mostly, partly = self.tracked(ratios), int((ratios >= 0.2).sum())
        return Clear(
            tp=self.tp,
            fp=pair.predicted_boxes - self.tp,
            fn=pair.true_boxes - self.tp,
            ids=self.ids,
            fm=int(self.breaks.sum()),
            mt=mostly,
            pt=partly - mostly,
            ml=pair.true_tracks - partly,
            overlap=self.overlap,
            of_one=True,
        )

    def frame(self, true: np.ndarray, predicted: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the pairs of one frame."""
        raise NotImplementedError

    def tracked(self, ratios: np.ndarray) -> int:
        """Number of objects that are mostly tracked."""
        raise NotImplementedError


class _Trackeval(_Counter):
    def __init__(self, pair: TrackPair, threshold: float) -> None:
        super().__init__(pair, threshold)
        self.now = np.full(pair.true_tracks, -1)  # the predicted track in the last frame that had both

    def frame(self, true: np.ndarray, predicted: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

        if not overlaps.size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        scores = _KEPT * (predicted[None] == self.now[true][:, None]) + overlaps
        scores[overlaps < self.threshold - _LEAST] = 0
        rows, columns = linear_sum_assignment(scores, maximize=True)
        good = scores[rows, columns] > _LEAST
        rows, columns = rows[good], columns[good]
        owners = true[rows]
        again = owners[(self.now[owners] < 0) & (self.last[owners] >= 0)]
        self.breaks[again] += 1
        self.now[:] = -1
        self.now[owners] = predicted[columns]
        return rows, columns

    def tracked(self, ratios: np.ndarray) -> int:
        return int((ratios > 0.8).sum())


class _Motmetrics(_Counter):
    def __init__(self, pair: TrackPair, threshold: float) -> None:
        super().__init__(pair, threshold)
        self.missed = np.zeros(pair.true_tracks, bool)  # in the last frame that the object was in

    def frame(self, true: np.ndarray, predicted: np.ndarray, overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

        allowed = 1 - overlaps <= 1 - self.threshold
        going = allowed & (predicted[None] == self.last[true][:, None])
        rows, columns = np.nonzero(going)
        # Two objects may have had one track last; the first of the file keeps it.
        _, first = np.unique(columns, return_index=True)
        first.sort()
        rows, columns = rows[first], columns[first]
        free_rows, free_columns = _without(len(true), rows), _without(len(predicted), columns)
        good = allowed[np.ix_(free_rows, free_columns)]
        if good.any():
            costs = np.where(good, 1 - overlaps[np.ix_(free_rows, free_columns)], _BEYOND)
            more, others = linear_sum_assignment(costs)
            kept = good[more, others]
            rows = np.concatenate([rows, free_rows[more[kept]]])
            columns = np.concatenate([columns, free_columns[others[kept]]])
        owners = true[rows]
        self.breaks[owners[self.missed[owners] & (self.last[owners] >= 0)]] += 1
        self.missed[true] = True
        self.missed[owners] = False
        return rows, columns

    def tracked(self, ratios: np.ndarray) -> int:
        return int((ratios >= 0.8).sum())


def _without(count: int, taken: np.ndarray) -> np.ndarray:
    free = np.ones(count, bool)
    free[taken] = False
    return np.flatnonzero(free)
