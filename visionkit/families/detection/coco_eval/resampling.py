"""COCO's numbers of images with weights: matched once, accumulated for any number of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from visionkit.families.detection.coco_eval.accumulate import (
    AREAS,
    IOU_THRESHOLDS,
    RECALL_POINTS,
    Matched,
    Overlaps,
    matched,
)
from visionkit.families.detection.coco_eval.flat import box_pairs, mask_pairs
from visionkit.families.detection.coco_eval.metric import Kind, flatten


class WeightedScores:
    """The twelve numbers of weighted images; an image of weight 2 counts as two images.

    Args:
        matched: What `matched` gives, of boxes or of masks.
        classes: Number of classes K.
        most: Objects of an image and class that are measured.
        kind: What stands before each name.
    """

    def __init__(self, matched: Matched, classes: int, most: int, kind: str) -> None:
        self.classes, self.most, self.kind = classes, most, kind
        found, true, matches = matched.found, matched.true, matched.matches
        order = np.lexsort((-found.scores, found.labels))
        self.bounds = np.searchsorted(found.labels[order], np.arange(classes + 1))
        self.image, self.rank = found.image[order], matched.rank[order]
        self.right = (matches.matched & ~matches.ignored)[order]
        self.wrong = (~matches.matched & ~matches.ignored)[order]
        self.true_image, self.true_labels, self.counted = true.image, true.labels, ~matched.ignored

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        names, steps = list(AREAS), len(IOU_THRESHOLDS)
        limits = (1, 10, self.most)
        precision = np.zeros((len(weights), self.classes, len(names), steps))
        recall = np.zeros((len(weights), self.classes, len(names), len(limits)))
        wanted = np.zeros((len(weights), self.classes, len(names)))
        for k in range(self.classes):
            mine = self.true_labels == k
            wanted[:, k] = weights[:, self.true_image[mine]] @ self.counted[mine].astype(np.float64)
            rows = slice(self.bounds[k], self.bounds[k + 1])
            own = weights[:, self.image[rows]]
            for a in np.flatnonzero(wanted[:, k].any(axis=0)):
                number = np.maximum(wanted[:, k, a], 1e-12)[:, None]
                for t in range(steps):
                    precision[:, k, a, t] = _average(own, self.right[rows, a, t], self.wrong[rows, a, t], number)
                for m, limit in enumerate(limits):
                    hits = self.right[rows, a] & (self.rank[rows] < limit)[:, None]
                    recall[:, k, a, m] = (own @ hits.astype(np.float64) / number).mean(axis=1)
        there = wanted > 0
        out = {"ap": _mean(precision[:, :, 0].mean(axis=-1), there[:, :, 0])}
        out |= {f"ap{50 + 5 * t}": _mean(precision[:, :, 0, t], there[:, :, 0]) for t in (0, 5)}
        out |= {f"ap_{n}": _mean(precision[:, :, a].mean(axis=-1), there[:, :, a]) for a, n in enumerate(names) if a}
        out |= {f"ar{limit}": _mean(recall[:, :, 0, m], there[:, :, 0]) for m, limit in enumerate(limits)}
        out |= {f"ar_{n}": _mean(recall[:, :, a, -1], there[:, :, a]) for a, n in enumerate(names) if a}
        return {f"{self.kind}_{name}": value for name, value in out.items()}


def _average(weights: np.ndarray, right: np.ndarray, wrong: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(r,) average precision of one class: at each recall the highest precision that reaches it.

    Args:
        weights: (r, n) weight of each found object, the highest-scoring first.
        right: (n,) bool.
        wrong: (n,) bool.
        number: (r, 1) weighted number of true objects.
    """
    at = np.flatnonzero(right)  # precision is highest at a right one
    if not len(at):
        return np.zeros(len(weights))
    hits = weights[:, at].cumsum(axis=1)
    misses = (weights * wrong).cumsum(axis=1)[:, at]
    precision = hits / np.maximum(hits + misses, 1e-12)
    place = np.searchsorted(RECALL_POINTS, hits / number, side="right") - 1
    table = np.zeros((len(weights), len(RECALL_POINTS)))
    cells = np.arange(len(weights))[:, None] * len(RECALL_POINTS) + place
    np.maximum.at(table.reshape(-1), cells.ravel(), precision.ravel())
    return np.asarray(np.maximum.accumulate(table[:, ::-1], axis=1).mean(axis=1))


def _mean(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(r,) means over the classes that are there, NaN without any."""
    count = there.sum(axis=1)
    return np.where(count > 0, (values * there).sum(axis=1) / np.maximum(count, 1), np.nan)


class WeightedDetections:
    """COCO's numbers of boxes, and of masks where they are measured, of images with weights.

    Args:
        images: Images as `DetectionMetrics` keeps them.
        classes: Number of classes K.
        masks: Measure masks too.
        most: Objects of an image and class that are measured.
    """

    def __init__(self, images: Sequence[Any], classes: int, masks: bool, most: int) -> None:
        self.images, self.classes, self.masks, self.most = images, classes, masks, most

    def joined(self, other: WeightedDetections) -> WeightedDetections:
        """One for the images of both."""
        return WeightedDetections([*self.images, *other.images], self.classes, self.masks, self.most)

    @cached_property
    def _parts(self) -> list[WeightedScores]:
        kinds: dict[Kind, Overlaps] = {"box": box_pairs}
        if self.masks:
            kinds["mask"] = mask_pairs
        flat = [(kind, overlaps, *flatten(self.images, kind)) for kind, overlaps in kinds.items()]
        return [
            WeightedScores(matched(found, true, self.classes, overlaps, self.most), self.classes, self.most, kind)
            for kind, overlaps, found, true in flat
        ]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name."""
        return {name: value for part in self._parts for name, value in part(weights).items()}
