"""True and predicted tracks of one sequence, frame by frame, in the form that every metric of tracks reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from visionkit.tracking.boxes import box_ious
from visionkit.tracking.rows import TrackRows

Convention = Literal["trackeval", "motmetrics"]
"""Whose definition is followed where the field's two tools differ.

`trackeval`, today's of MOTChallenge: a pair of the last frame is kept where the sum of overlaps allows; mostly tracked
is above .8; a value whose denominator is 0 counts as 0. `motmetrics`: the last pair of an object is kept before all
others, however long ago; mostly tracked is from .8 on; a value whose denominator is 0 is no number.
"""


@dataclass(frozen=True)
class TrackPair:
    """True and predicted tracks of one sequence.

    Attributes:
        true: For each frame (n,) int64, numbers of the true tracks in it, counted from 0.
        predicted: For each frame (m,) int64, numbers of the predicted tracks.
        overlaps: For each frame (n, m) float64, IoU.
        true_tracks: Number of true tracks.
        predicted_tracks: Number of predicted tracks.
        true_ids: (true_tracks,) int64, ids of the true tracks in their files.
        predicted_ids: (predicted_tracks,) int64, those of the predicted ones.
    """

    true: tuple[np.ndarray, ...]
    predicted: tuple[np.ndarray, ...]
    overlaps: tuple[np.ndarray, ...]
    true_tracks: int
    predicted_tracks: int
    true_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    predicted_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, truth: TrackRows, predicted: TrackRows, frames: int | None = None) -> TrackPair:
        """Pairs the rows of two files.

        Args:
            truth: Those that count.
            predicted: Those that count.
            frames: Number of frames; by default up to the last one with a row.

        Raises:
            DataError: An id is in a frame twice.
        """
        truth.check_ids()
        predicted.check_ids()
        last = max(int(truth.frames.max(initial=0)), int(predicted.frames.max(initial=0)), frames or 0)
        true_ids, true_numbers = np.unique(truth.ids, return_inverse=True)
        ids, numbers = np.unique(predicted.ids, return_inverse=True)
        rows = list(zip(truth.each_frame(last), predicted.each_frame(last), strict=True))
        return cls(
            tuple(true_numbers[first] for first, _ in rows),
            tuple(numbers[second] for _, second in rows),
            tuple(box_ious(truth.boxes[first], predicted.boxes[second]) for first, second in rows),
            len(true_ids),
            len(ids),
            true_ids,
            ids,
        )

    @property
    def true_boxes(self) -> int:
        """Number of true boxes in all frames."""
        return sum(map(len, self.true))

    @property
    def predicted_boxes(self) -> int:
        """Number of predicted boxes in all frames."""
        return sum(map(len, self.predicted))

    @property
    def is_bare(self) -> bool:
        """Whether there is no true or no predicted box at all."""
        return not (self.true_boxes and self.predicted_boxes)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of boxes of each true and of each predicted track."""
        return (
            np.bincount(_joined(self.true), minlength=self.true_tracks),
            np.bincount(_joined(self.predicted), minlength=self.predicted_tracks),
        )


def fraction(part: float, whole: float, convention: Convention) -> float:
    """A fraction whose denominator may be 0, see `Convention`."""
    if convention == "trackeval":
        return float(part / max(1.0, whole))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(part) / np.float64(whole))


def _joined(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
