"""How masks of a video are measured: DAVIS's region similarity J and contour accuracy F (Perazzi et al., CVPR 2016).

J is the overlap of a mask with the truth; F the F-measure of their boundaries, where a boundary pixel is right within
.008 of the image's diagonal. Of each object both are averaged over the frames; recall is the fraction of frames above
one half, and decay what is lost from the first quarter of the frames to the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from visionkit.drawing.object_masks import object_numbers
from visionkit.types import IGNORE

TOLERANCE = 0.008
"""Of the diagonal, rounded up to pixels, by which boundaries may be apart."""

_QUARTERS = 4


def region_similarity(found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """J: intersection over union; 1 where both are empty.

    Args:
        found: (h, w) bool.
        truth: (h, w) bool.
        void: (h, w) bool, pixels that do not count.
    """
    if void is not None:
        found, truth = found & ~void, truth & ~void
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 1.0


def contour_accuracy(
    found: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> float:
    """F: the F-measure of the boundaries; 1 where both are empty, 0 where one is.

    Args:
        found: (h, w) bool.
        truth: (h, w) bool.
        void: (h, w) bool, pixels that do not count.
        tolerance: Fraction of the diagonal, or from 1 on pixels.
    """
    if void is not None:
        found, truth = found & ~void, truth & ~void
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape))
    ours, real = boundary(found), boundary(truth)
    count, total = int(ours.sum()), int(real.sum())
    if not count or not total:
        return float(count == total)
    disk = _disk(int(radius))
    precision = int((ours & _dilated(real, disk)).sum()) / count
    recall = int((real & _dilated(ours, disk)).sum()) / total
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool, pixels that differ from the one to the right, below, or to the right below."""
    out = np.zeros(mask.shape, bool)
    out[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    out[:-1] |= mask[1:] != mask[:-1]
    out[:-1, :-1] |= mask[1:, 1:] != mask[:-1, :-1]
    return out


def _disk(radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    return np.asarray(offsets[:, None] ** 2 + offsets**2 <= radius**2, np.uint8)


def _dilated(mask: np.ndarray, disk: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk) > 0)


@dataclass(frozen=True)
class Statistics:
    """One measure of an object, over its frames.

    Attributes:
        mean: Mean.
        recall: Fraction of frames above one half.
        decay: Mean of the first quarter less that of the last.
    """

    mean: float
    recall: float
    decay: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Statistics:
        """The statistics of the values of all frames.

        Quarters share the frame between them, as in the benchmark's code.
        """
        scores = np.asarray(values, np.float64)
        ends = np.floor(np.linspace(1, len(scores), _QUARTERS + 1) + 0.5 + 1e-10).astype(int) - 1
        first, last = scores[ends[0] : ends[1] + 1], scores[ends[-2] : ends[-1] + 1]
        return cls(float(scores.mean()), float((scores > 0.5).mean()), float(first.mean() - last.mean()))


@dataclass(frozen=True)
class ObjectScores:
    """What was measured of one object.

    Attributes:
        j: J of each frame.
        f: F of each frame.
    """

    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)


class SequenceScores:
    """Measures a sequence frame by frame, each object that its first frame marks.

    An object counts in all frames that are added, also where it is hidden: an empty mask of an empty truth is right.

    Args:
        first: (h, w) the label map of the first frame. Where it has 0 and 255 alone, 255 is the one object; otherwise
            it does not count.

    Attributes:
        is_binary: 255 is the one object.
        objects: What was measured, by number of the object.
    """

    def __init__(self, first: np.ndarray) -> None:
        numbers = object_numbers(first)
        self.is_binary = not numbers and bool((first == IGNORE).any())
        self.objects = {number: ObjectScores() for number in (numbers or [1] * self.is_binary)}

    def add(self, found: np.ndarray, truth: np.ndarray) -> None:
        """Adds a frame.

        Args:
            found: (h, w) its label map as it was found; 255 is the object where there is but one.
            truth: (h, w) its label map in the manner of the first one.
        """
        void = None if self.is_binary else truth == IGNORE
        if self.is_binary:
            found, truth = found != 0, truth != 0
        elif len(self.objects) == 1 and not ((found != 0) & (found != IGNORE)).any():
            found = np.where(found == IGNORE, next(iter(self.objects)), 0)
        for number, scores in self.objects.items():
            pair = found == number, truth == number
            scores.j.append(region_similarity(*pair, void))
            scores.f.append(contour_accuracy(*pair, void))


def combine(objects: Sequence[ObjectScores]) -> Mapping[str, float]:
    """The benchmark's numbers: statistics of each object, averaged over the objects of all sequences.

    Args:
        objects: Those of all sequences.
    """
    regions = [Statistics.of(each.j) for each in objects]
    contours = [Statistics.of(each.f) for each in objects]
    out: dict[str, float] = {}
    for name, some in (("j", regions), ("f", contours)):
        for statistic in ("mean", "recall", "decay"):
            out[f"{name}_{statistic}"] = float(np.mean([getattr(each, statistic) for each in some]))
    return {"j_and_f": (out["j_mean"] + out["f_mean"]) / 2, **out}
