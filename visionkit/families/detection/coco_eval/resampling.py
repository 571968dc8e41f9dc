"""COCO's and VOC's numbers of images with weights: matched once, accumulated for any number of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from visionkit.families.detection.coco_eval.accumulate import AREAS, COUNTED, RECALL_POINTS, Matched, matched
from visionkit.families.detection.coco_eval.flat import box_pairs, mask_pairs
from visionkit.families.detection.coco_eval.metric import flatten, truth_by_speed
from visionkit.families.detection.coco_eval.voc import POINTS11, VocMatches, voc_matches
from visionkit.uncertainty.weighted_curves import area_precision, interpolated_precision, mean_over


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
        bounds = np.searchsorted(found.labels[order], np.arange(classes + 1))
        self.rows = [slice(first, last) for first, last in pairwise(bounds)]
        self.image, self.rank = found.image[order], matched.rank[order]
        self.right = (matches.matched & ~matches.ignored)[order]
        self.wrong = (~matches.matched & ~matches.ignored)[order]
        self.true_image, self.true_labels, self.counted = true.image, true.labels, ~matched.ignored

    def precision(self, weights: np.ndarray, areas: int) -> tuple[np.ndarray, np.ndarray]:
        """AP of each class, range of areas and overlap, and the weighted number of true objects.

        Args:
            weights: (r, N) weights.
            areas: So many of `AREAS` are measured, the first ones.

        Returns:
            (r, K, A, T) and (r, K, A).
        """
        steps = self.right.shape[2]
        precision = np.zeros((len(weights), self.classes, areas, steps))
        wanted = np.zeros((len(weights), self.classes, areas))
        for k in range(self.classes):
            mine, rows = self.true_labels == k, self.rows[k]
            wanted[:, k] = weights[:, self.true_image[mine]] @ self.counted[mine, :areas].astype(np.float64)
            own = weights[:, self.image[rows]]
            for a in np.flatnonzero(wanted[:, k].any(axis=0)):
                for t in range(steps):
                    right, wrong = self.right[rows, a, t], self.wrong[rows, a, t]
                    precision[:, k, a, t] = interpolated_precision(own, right, wrong, wanted[:, k, a], RECALL_POINTS)
        return precision, wanted

    def recall(self, weights: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """(r, K, A, 3) mean recall over the overlaps, for at most 1, 10 and `most` objects per image and class."""
        limits = (1, 10, self.most)
        recall = np.zeros((*wanted.shape, len(limits)))
        for k in range(self.classes):
            own = weights[:, self.image[self.rows[k]]]
            for a in range(wanted.shape[2]):
                for m, limit in enumerate(limits):
                    hits = self.right[self.rows[k], a] & (self.rank[self.rows[k]] < limit)[:, None]
                    number = np.maximum(wanted[:, k, a], 1e-12)
                    recall[:, k, a, m] = (own @ hits.astype(np.float64) / number[:, None]).mean(axis=1)
        return recall

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        names, limits = list(AREAS), (1, 10, self.most)
        precision, wanted = self.precision(weights, len(names))
        recall, there = self.recall(weights, wanted), wanted > 0
        out = {"ap": mean_over(precision[:, :, 0].mean(axis=-1), there[:, :, 0])}
        out |= {f"ap{50 + 5 * t}": mean_over(precision[:, :, 0, t], there[:, :, 0]) for t in (0, 5)}
        out |= {
            f"ap_{n}": mean_over(precision[:, :, a].mean(axis=-1), there[:, :, a]) for a, n in enumerate(names) if a
        }
        out |= {f"ar{limit}": mean_over(recall[:, :, 0, m], there[:, :, 0]) for m, limit in enumerate(limits)}
        out |= {f"ar_{n}": mean_over(recall[:, :, a, -1], there[:, :, a]) for a, n in enumerate(names) if a}
        return {f"{self.kind}{name}": value for name, value in out.items()}


class WeightedOverlaps(WeightedScores):
    """COCO's AP at each overlap that was matched, of weighted images.

    Args:
        matched: What `matched` gives.
        classes: Number of classes K.
        names: Name of the AP at each overlap.
    """

    def __init__(self, matched: Matched, classes: int, names: Sequence[str]) -> None:
        super().__init__(matched, classes, COUNTED, "")
        self.names = names

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        precision, wanted = self.precision(weights, 1)
        there = wanted[:, :, 0] > 0
        return {name: mean_over(precision[:, :, 0, t], there) for t, name in enumerate(self.names)}


class WeightedVoc:
    """VOC's AP of weighted images, over all points and over eleven.

    Args:
        matches: What `voc_matches` gives.
        classes: Number of classes K.
        names: Names of both, or of the first.
    """

    def __init__(self, matches: VocMatches, classes: int, names: Sequence[str]) -> None:
        self.matches, self.classes, self.names = matches, classes, names

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        each = self.matches
        values = np.zeros((2, len(weights), self.classes))
        number = np.zeros((len(weights), self.classes))
        for k in range(self.classes):
            number[:, k] = weights[:, each.true_image[each.true_labels == k]].sum(axis=1)
            rows = each.labels == k
            own, right = weights[:, each.image[rows]], each.right[rows]
            values[0, :, k] = area_precision(own, right, ~right, number[:, k])
            values[1, :, k] = interpolated_precision(own, right, ~right, number[:, k], POINTS11)
        return dict(zip(self.names, (mean_over(part, number > 0) for part in values), strict=False))


class WeightedDetections:
    """COCO's numbers of boxes, and of masks where they are measured, and VOC's AP50, of images with weights.

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
    def _parts(self) -> list[WeightedScores | WeightedVoc]:
        count, most = self.classes, self.most
        found, true = flatten(self.images, "box")
        parts: list[WeightedScores | WeightedVoc] = [
            WeightedScores(matched(found, true, count, box_pairs, most), count, most, "box_"),
            WeightedVoc(voc_matches(found, true, count, box_pairs, 0.5), count, ("voc_ap50", "voc_ap50_11")),
        ]
        for speed, counted in truth_by_speed(self.images, true).items():
            matches = voc_matches(found, counted, count, box_pairs, 0.5)
            parts.append(WeightedVoc(matches, count, (f"voc_ap50_{speed}",)))
        if self.masks:
            masks = matched(*flatten(self.images, "mask"), count, mask_pairs, most)
            parts.append(WeightedScores(masks, count, most, "mask_"))
        return parts

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name."""
        return {name: value for part in self._parts for name, value in part(weights).items()}
