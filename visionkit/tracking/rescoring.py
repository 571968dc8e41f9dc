"""Detections of a whole video rescored by what the frames around show, without training.

Seq-NMS (Han et al., 2016) links boxes of neighboring frames into sequences, gives the boxes of the best one a common
score, suppresses what overlaps them, and goes on with the rest. Tubelets link what non-maximum suppression left, one to
one, and only share their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from visionkit.errors import UsageError, suggest
from visionkit.predictions import Detections
from visionkit.tracking.assignment import assign
from visionkit.tracking.boxes import box_ious

Common = Literal["mean", "max"]
"""The score that the boxes of a sequence share."""


def seq_nms(
    frames: Sequence[Detections], link: float = 0.5, overlap: float = 0.3, common: Common = "mean"
) -> list[Detections]:
    """Rescores and suppresses boxes by sequences over the frames; classes by themselves.

    Args:
        frames: What was found in each frame, low scores and overlapping boxes included.
        link: Boxes of neighboring frames that overlap by this and more may be one object.
        overlap: Boxes that overlap a box of a better sequence by this and more are dropped.
        common: The score of a sequence: the `mean` of its boxes' or the highest, `max`.

    Raises:
        UsageError: An unknown `common`.
    """
    if common not in get_args(Common):
        allowed = get_args(Common)
        raise UsageError(f"common {common!r}: allowed are {', '.join(allowed)}{suggest(common, allowed)}")
    kept = [np.zeros(len(each), bool) for each in frames]
    scores = [each.scores.astype(np.float64) for each in frames]
    for label in np.unique(np.concatenate([np.zeros(0, np.int64), *(each.labels for each in frames)])):
        rows = [np.flatnonzero(each.labels == label) for each in frames]
        chain = _Chain([each.boxes[some] for each, some in zip(frames, rows, strict=True)],
                       [values[some] for values, some in zip(scores, rows, strict=True)], link)  # fmt: skip
        while (found := chain.best()) is not None:
            first, path = found
            members = [(first + step, row) for step, row in enumerate(path)]
            values = [chain.scores[frame][row] for frame, row in members]
            value = max(values) if common == "max" else float(np.mean(values))
            for frame, row in members:
                kept[frame][rows[frame][row]], scores[frame][rows[frame][row]] = True, value
            chain.drop(members, overlap)
    return [_rescored(each, own, some) for each, own, some in zip(frames, scores, kept, strict=True)]


def tubelets(frames: Sequence[Detections], link: float = 0.5, common: Common = "mean") -> list[Detections]:
    """Rescores boxes by those that they are linked with, one to one from frame to frame; none is dropped.

    Args:
        frames: What was found in each frame, after non-maximum suppression.
        link: Boxes of neighboring frames that overlap by this and more may be one object.
        common: The score of a tubelet: the `mean` of its boxes' or the highest, `max`.
    """
    numbers: list[np.ndarray] = []
    count = 0
    for position, each in enumerate(frames):
        own = np.full(len(each), -1)
        if position:
            before = frames[position - 1]
            fit = box_ious(before.boxes, each.boxes) * (before.labels[:, None] == each.labels[None])
            pairs = assign(fit, fit >= link)
            own[pairs.columns] = numbers[-1][pairs.rows]
        new = own < 0
        own[new] = count + np.arange(new.sum())
        count += int(new.sum())
        numbers.append(own)
    every = np.concatenate([np.zeros(0, np.int64), *numbers]).astype(np.int64)
    scores = np.concatenate([np.zeros(0), *(each.scores.astype(np.float64) for each in frames)])
    if common == "max":
        values = np.zeros(count)
        np.maximum.at(values, every, scores)
    else:
        values = np.bincount(every, scores, minlength=count) / np.maximum(np.bincount(every, minlength=count), 1)
    return [_rescored(each, values[own], np.ones(len(each), bool)) for each, own in zip(frames, numbers, strict=True)]


RESCORINGS: Mapping[str, Callable[[Sequence[Detections]], list[Detections]]] = {
    "seq-nms": seq_nms,
    "tubelets": tubelets,
}
"""By the name that `--rescore` takes."""


def _rescored(found: Detections, scores: np.ndarray, kept: np.ndarray) -> Detections:
    return replace(found.chosen(kept), scores=scores[kept])


class _Chain:
    """Boxes of one class over the frames, and the best sequence through those that are left.

    Args:
        boxes: Boxes of each frame.
        scores: Their scores.
        link: See `seq_nms`.
    """

    def __init__(self, boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], link: float) -> None:
        self.boxes, self.scores = boxes, scores
        self.left = [np.ones(len(each), bool) for each in boxes]
        self.links = [box_ious(boxes[k], boxes[k + 1]) >= link for k in range(len(boxes) - 1)]
        # The best sum of a sequence that begins at each box, and the box that it goes on with (-1 for none).
        self.sums = [np.zeros(len(each)) for each in boxes]
        self.next = [np.full(len(each), -1) for each in boxes]
        self.highest = np.full(len(boxes), -np.inf)
        self._update(len(boxes) - 1, 0)

    def best(self) -> tuple[int, list[int]] | None:
        """Frame of the first box of the best sequence, and the box of each frame from there on."""
        if not len(self.highest) or self.highest.max() == -np.inf:
            return None
        frame = int(self.highest.argmax())
        path = [int(np.where(self.left[frame], self.sums[frame], -np.inf).argmax())]
        while (follows := int(self.next[frame + len(path) - 1][path[-1]])) >= 0:
            path.append(follows)
        return frame, path

    def drop(self, members: Sequence[tuple[int, int]], overlap: float) -> None:
        """Takes a sequence out, and all that overlaps its boxes."""
        for frame, row in members:
            near = box_ious(self.boxes[frame][row][None], self.boxes[frame])[0] >= overlap
            self.left[frame] &= ~near
            self.left[frame][row] = False
        self._update(members[-1][0], members[0][0])

    def _update(self, last: int, first: int) -> None:
        """Works the sums out again, backwards from a frame until nothing changes before another one."""
        for frame in range(last, -1, -1):
            before = np.where(self.left[frame], self.sums[frame], -np.inf)
            sums, follows = self.scores[frame].astype(np.float64), np.full(len(self.scores[frame]), -1)
            if frame + 1 < len(self.boxes) and len(sums) and self.left[frame + 1].any():
                reach = np.where(self.links[frame] & self.left[frame + 1], self.sums[frame + 1], -np.inf)
                most, linked = reach.max(axis=1), reach.argmax(axis=1)
                goes_on = most > -np.inf
                follows[goes_on] = linked[goes_on]
                sums = sums + np.where(goes_on, most, 0.0)
            now = np.where(self.left[frame], sums, -np.inf)
            same = np.array_equal(now, before) and np.array_equal(follows, self.next[frame])
            self.sums[frame], self.next[frame] = sums, follows
            self.highest[frame] = now.max(initial=-np.inf)
            if same and frame < first:
                return
