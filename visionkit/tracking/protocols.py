"""What counts in a benchmark of tracks: which classes, which boxes are neither for nor against, which are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from visionkit.tracking.boxes import box_ious, covered_fractions
from visionkit.tracking.metrics import TrackPair
from visionkit.tracking.rows import TrackRows

MATCH = 0.5
"""IoU from which a predicted box is that of a true one."""

_LEAST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class TrackProtocol:
    """How a benchmark counts.

    Attributes:
        name: Name of the benchmark.
        classes: Classes of the ground truth that count, each by itself; None where files state no classes.
        distractors: Classes whose boxes count neither for nor against: a predicted box matched to one is left out.
        regions: Classes whose boxes are regions: a predicted box without a match is left out where half of it lies in
            one of them.
        min_visibility: True boxes that are seen less count neither for nor against.
    """

    name: str
    classes: tuple[int, ...] | None = None
    distractors: tuple[int, ...] = ()
    regions: tuple[int, ...] = ()
    min_visibility: float = 0.0

    def with_options(
        self, classes: Sequence[int] = (), regions: Sequence[int] = (), min_visibility: float = 0.0
    ) -> TrackProtocol:
        """The same with other classes, with regions, or with a least visibility."""
        chosen = tuple(classes) or self.classes
        rest = tuple(each for each in self.distractors if each not in (chosen or ()) and each not in regions)
        return replace(
            self, classes=chosen, distractors=rest, regions=tuple(regions), min_visibility=float(min_visibility)
        )

    def pairs(self, truth: TrackRows, predicted: TrackRows, frames: int | None = None) -> dict[int, TrackPair]:
        """True and predicted tracks that count, by class.

        A predicted box without a class (-1 or 0) is of the class that counts, where there is one.

        Args:
            truth: As the file has it.
            predicted: As the file has it.
            frames: Number of frames; by default up to the last one with a row.

        Raises:
            DataError: An id is in a frame twice.
        """
        truth.check_ids()
        predicted.check_ids()
        if self.classes is None:
            return {-1: TrackPair.of(truth.chosen(truth.scores != 0), predicted, frames)}
        pairs = {}
        for label in self.classes:
            own = predicted.classes == label
            if len(self.classes) == 1:
                own |= predicted.classes <= 0
            kept = predicted.chosen(own)
            kept = kept.chosen(~self._ignored(truth, kept, label))
            counts = (truth.classes == label) & (truth.scores != 0) & (truth.visibility >= self.min_visibility)
            pairs[label] = TrackPair.of(truth.chosen(counts), kept, frames)
        return pairs

    def other_classes(self, predicted: TrackRows) -> int:
        """Number of predicted boxes of classes that do not count."""
        if self.classes is None:
            return 0
        counted = np.isin(predicted.classes, self.classes)
        return int((~counted & ((predicted.classes > 0) | (len(self.classes) > 1))).sum())

    def _ignored(self, truth: TrackRows, predicted: TrackRows, label: int) -> np.ndarray:
        """(N,) bool, the predicted boxes that count neither for nor against."""
        from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

        ignored = np.zeros(len(predicted), bool)
        region = np.isin(truth.classes, self.regions)
        hidden = (truth.classes == label) & (truth.visibility < self.min_visibility)
        unscored = np.isin(truth.classes, self.distractors) | hidden
        last = max(int(truth.frames.max(initial=0)), int(predicted.frames.max(initial=0)))
        for true, found in zip(truth.each_frame(last), predicted.each_frame(last), strict=True):
            objects = true[~region[true]]
            overlaps = box_ious(truth.boxes[objects], predicted.boxes[found])
            overlaps[overlaps < MATCH - _LEAST] = 0
            rows, columns = linear_sum_assignment(overlaps, maximize=True)
            good = overlaps[rows, columns] > _LEAST
            rows, columns = rows[good], columns[good]
            ignored[found[columns[unscored[objects[rows]]]]] = True
            if self.regions:
                alone = np.delete(found, columns)
                inside = covered_fractions(predicted.boxes[alone], truth.boxes[true[region[true]]]) > 0.5 + _LEAST
                ignored[alone[inside.any(axis=1)]] = True
        return ignored

    def text(self) -> str:
        """The protocol in one sentence."""
        parts = [f"{self.name}: IoU at least {MATCH}"]
        if self.classes is None:
            parts.append("all boxes that the ground truth does not mark with 0")
        else:
            numbers = ", ".join(map(str, self.classes))
            parts.append(f"class{'es' * (len(self.classes) > 1)} {numbers}, boxes marked with 0 left out")
        if self.distractors:
            parts.append(
                f"predictions on classes {', '.join(map(str, self.distractors))} count neither for nor against"
            )
        if self.regions:
            parts.append(f"nor do those inside of regions of classes {', '.join(map(str, self.regions))}")
        if self.min_visibility:
            parts.append(f"nor true boxes of visibility below {self.min_visibility:g}")
        return "; ".join(parts)


_DISTRACTORS = (2, 7, 8, 12)
"""A person on a vehicle, one standing still on a poster or so, other distractors, reflections."""

PROTOCOLS = {
    "mot15": TrackProtocol("MOT15"),
    "mot16": TrackProtocol("MOT16", (1,), _DISTRACTORS),
    "mot17": TrackProtocol("MOT17", (1,), _DISTRACTORS),
    "mot20": TrackProtocol("MOT20", (1,), (*_DISTRACTORS[:1], 6, *_DISTRACTORS[1:])),
}
"""The benchmarks of MOTChallenge."""
