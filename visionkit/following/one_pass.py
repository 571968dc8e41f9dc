"""OTB's one-pass evaluation (OPE; Wu, Lim and Yang, 2013): how near and how well boxes of one object lie.

measure(truth, boxes).values()["success_auc"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from visionkit.errors import DataError
from visionkit.images import ImageSource

if TYPE_CHECKING:
    from visionkit.following.otb_files import OtbSequence
    from visionkit.following.visual_tracker import VisualTracker

Convention = Literal["otb", "stored"]
"""What counts. `otb` is what the benchmark's own code does: the first box is that of the ground truth, a box of no size
repeats the one before, and only frames whose four true numbers are all above 0 count. `stored` takes all frames as the
files have them."""

NEAR = 20.0
"""Pixels between centers up to which a box is precise."""

THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps that a box has to exceed, each in its turn."""


@dataclass(frozen=True)
class OnePass:
    """What was measured in one sequence.

    Attributes:
        frames: (N,) numbers of the frames that count, from 0.
        distances: (N,) pixels between the centers; infinite without a box.
        overlaps: (N,) intersection over union.
        length: Number of frames, those that do not count among them.
    """

    frames: np.ndarray
    distances: np.ndarray
    overlaps: np.ndarray
    length: int

    def values(self) -> dict[str, float]:
        """The measures by name, as fractions."""
        return {
            "precision_20": float((self.distances <= NEAR).mean()),
            "success_auc": float((self.overlaps[:, None] > THRESHOLDS).mean()),
            "success_50": float((self.overlaps > 0.5).mean()),
            "mean_overlap": float(self.overlaps.mean()),
        }


def measure(truth: np.ndarray, boxes: np.ndarray, convention: Convention = "otb", name: str = "boxes") -> OnePass:
    """Measures the boxes of a sequence.

    Args:
        truth: (N, 4) left, top, width, height.
        boxes: (N, 4) what was predicted; numbers that are not finite stand for no box.
        convention: See `Convention`.
        name: Names the boxes in messages.

    Raises:
        DataError: Another number of boxes, or no frame that counts.
    """
    if len(truth) != len(boxes):
        raise DataError(f"{name}: {len(boxes)} boxes for {len(truth)} of the ground truth; one per frame is needed")
    counts = np.isfinite(truth).all(axis=1)
    if convention == "otb":
        counts &= (truth > 0).all(axis=1)
        boxes = _without_gaps(truth, boxes)
    if not counts.any():
        raise DataError(f"{name}: no frame counts; the ground truth has no box above 0")
    real, found = truth[counts], boxes[counts]
    there = np.isfinite(found).all(axis=1)
    found = np.where(there[:, None], found, 0.0)
    apart = np.linalg.norm(real[:, :2] + real[:, 2:] / 2 - found[:, :2] - found[:, 2:] / 2, axis=1)
    distances = np.where(there, apart, np.inf)
    return OnePass(np.flatnonzero(counts), distances, np.where(there, overlaps(real, found), 0.0), len(truth))


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of boxes in pairs; 0 where one has no size.

    Args:
        boxes: (N, 4) left, top, width, height.
        others: (N, 4).
    """
    ends = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    sides = np.maximum(ends - np.maximum(boxes[:, :2], others[:, :2]), 0)
    shared = sides.prod(axis=1)
    unions = boxes[:, 2:].prod(axis=1) + others[:, 2:].prod(axis=1) - shared
    ratios: np.ndarray = np.divide(shared, unions, out=np.zeros(len(shared)), where=shared > 0)
    return ratios


def follow(tracker: VisualTracker, sequence: OtbSequence) -> np.ndarray:
    """(N, 4) left, top, width, height of the object in each frame, in the numbers of its ground truth.

    Args:
        tracker: Begins with the first true box.
        sequence: Its images are read one after the other.

    Raises:
        DataError: An image cannot be read, or has another size than the first.
    """
    boxes = []
    for number, (path, first) in enumerate(zip(sequence.images, sequence.corners, strict=True)):
        frame = ImageSource(path).read()
        if number:
            box = tracker.update(frame).box
        else:
            tracker.begin(frame, first)
            box = tracker.box
        boxes.append([*(box[:2] + 1), *(box[2:] - box[:2])])
    return np.array(boxes)


def mean_values(parts: Sequence[OnePass]) -> dict[str, float]:
    """The measures of several sequences, each with the same weight, as the benchmark has it.

    Args:
        parts: At least one.
    """
    each = [part.values() for part in parts]
    return {name: float(np.mean([values[name] for values in each])) for name in each[0]}


def protocol_text(parts: Sequence[OnePass], convention: Convention) -> str:
    """How it was measured, in one sentence."""
    counted, length = sum(len(part.frames) for part in parts), sum(part.length for part in parts)
    what = {
        "otb": "OTB's convention: the first box is the true one, and frames whose four true numbers are above 0 count",
        "stored": "all frames as the files have them",
    }[convention]
    several = f"; mean over {len(parts)} sequences" if len(parts) > 1 else ""
    return (
        f"one-pass evaluation: centers at most {NEAR:g} pixels apart; success over {len(THRESHOLDS)} thresholds that "
        f"the overlap exceeds; {what} ({counted} of {length} frames){several}"
    )


def _without_gaps(truth: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The boxes with the first one true; one of no size repeats the one before."""
    filled = boxes.copy()
    filled[0] = truth[0]
    for number in range(1, len(filled)):
        width, height = filled[number, 2:]
        if not (np.isfinite(filled[number]).all() and width > 0 and height > 0):
            filled[number] = filled[number - 1]
    return filled
