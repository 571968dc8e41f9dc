"""From matches to COCO's twelve numbers, equal to pycocotools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from visionkit.families.detection.coco_eval.flat import Flat, Pairs, meetings
from visionkit.families.detection.coco_eval.matching import Matches, match

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
COUNTED = 100
"""Objects of an image and class that COCO measures."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of the annotation's area in file pixels."""

Overlaps = Callable[[Flat, Flat, tuple[np.ndarray, np.ndarray], float], Pairs]


@dataclass(frozen=True, eq=False)
class Scores:
    """COCO's measures of one type, boxes or masks; -1 where there is nothing to measure.

    Attributes:
        precision: (T, 101, K, 4) at each overlap, recall, class and range of areas; at most `most` objects per image
            and class.
        recall: (T, K, 4, 3) for at most 1, 10 and `most` objects per image and class.
        scores: (T, 101, K) the score from which that recall is reached, all areas.
        support: (K,) number of true objects that count.
        most: Objects of an image and class that are measured, those of the highest scores.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray
    support: np.ndarray
    most: int = COUNTED

    def numbers(self) -> dict[str, float]:
        """The twelve numbers in COCO's order: ap, ap50, ap75, ap_small, ... ar_large."""
        precision, recall = self.precision, self.recall
        out = {"ap": _mean(precision[..., 0]), "ap50": _mean(precision[0, ..., 0]), "ap75": _mean(precision[5, ..., 0])}
        names = list(AREAS)
        out |= {f"ap_{name}": _mean(precision[..., k]) for k, name in enumerate(names) if k}
        out |= {f"ar{most}": _mean(recall[:, :, 0, k]) for k, most in enumerate((1, 10, self.most))}
        out |= {f"ar_{name}": _mean(recall[:, :, k, -1]) for k, name in enumerate(names) if k}
        return out

    def by_overlap(self) -> np.ndarray:
        """(T,) AP at each overlap, the mean over the classes that have objects."""
        return np.array([_mean(part) for part in self.precision[..., 0]])

    def per_class(self) -> np.ndarray:
        """(K, 4) ap, ap50, ap75 and recall at `most` of each class; -1 for a class without objects."""
        columns = [self.precision[:, :, :, 0], self.precision[:1, :, :, 0], self.precision[5:6, :, :, 0]]
        out = [[_mean(column[:, :, k]) for column in columns] for k in range(self.precision.shape[2])]
        last = [_mean(self.recall[:, k, 0, -1]) for k in range(self.recall.shape[1])]
        return np.column_stack([np.array(out).reshape(-1, 3), last])


def _mean(values: np.ndarray) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def evaluate(
    found: Flat,
    true: Flat,
    classes: int,
    overlaps: Overlaps,
    most: int = COUNTED,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> Scores:
    """Measures found objects by COCO's protocol.

    AP over overlaps .50:.05:.95 and 101 recall points, at most `most` objects per image and class, crowds left out,
    small, medium and large by the annotation's area in file pixels.

    Args:
        found: Objects found, in any order; equal scores keep it.
        true: Objects there are.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        most: COCO's own is 100; sets of crowded images are measured with more (Edlund et al., 2021: LIVECell).
        thresholds: (T,) overlaps, rising; `numbers` and `per_class` are those of COCO's own ten.
    """
    each = matched(found, true, classes, overlaps, most, thresholds)
    return _accumulate(each.found, each.rank, each.matches, true.labels, each.ignored, classes, most)


class Matched(NamedTuple):
    """Objects and what became of them.

    Attributes:
        found: Those that are measured, by image, class and falling score.
        true: Objects there are.
        rank: (N,) place of each found one in its image and class.
        matches: What became of each found one.
        ignored: (M, A) bool, the true object is left out of the count in that range of areas.
    """

    found: Flat
    true: Flat
    rank: np.ndarray
    matches: Matches
    ignored: np.ndarray


def matched(
    found: Flat,
    true: Flat,
    classes: int,
    overlaps: Overlaps,
    most: int = COUNTED,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> Matched:
    """Matches found objects to true ones; arguments as in `evaluate`."""
    found, rank = highest_scoring(found, classes, most)
    ranges = np.array(list(AREAS.values()))
    crowd = true.crowd if len(true.crowd) else np.zeros(len(true), dtype=bool)
    ignored = crowd[:, None] | (true.areas[:, None] < ranges[:, 0]) | (true.areas[:, None] > ranges[:, 1])
    rows = meetings(found.image * classes + found.labels, true.image * classes + true.labels)
    pairs = overlaps(found, true, rows, float(thresholds[0]))
    return Matched(found, true, rank, match(found, true, pairs, ignored, ranges, thresholds), ignored)


def highest_scoring(found: Flat, classes: int, most: int) -> tuple[Flat, np.ndarray]:
    """At most `most` of each image and class, sorted by both and falling score, and their ranks within."""
    key = found.image * classes + found.labels
    order = np.lexsort((-found.scores, key))
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1)) if len(key) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, len(key)))
    rank = np.arange(len(key)) - np.repeat(starts, lengths)
    keep = rank < most
    return found.take(order[keep]), rank[keep]


def _accumulate(
    found: Flat,
    rank: np.ndarray,
    matches: Matches,
    true_labels: np.ndarray,
    ignored: np.ndarray,
    classes: int,
    most: int,
) -> Scores:
    areas, steps = ignored.shape[1], matches.matched.shape[2]
    precision = np.full((steps, len(RECALL_POINTS), classes, areas), -1.0)
    recall = np.full((steps, classes, areas, 3), -1.0)
    scores = np.full((steps, len(RECALL_POINTS), classes), -1.0)
    wanted = np.zeros((classes, areas), dtype=np.int64)
    np.add.at(wanted, true_labels, (~ignored).astype(np.int64))
    order = np.lexsort((-found.scores, found.labels))  # stable: images stay in their order among equal scores
    bounds = np.searchsorted(found.labels[order], np.arange(classes + 1))
    for k in range(classes):
        rows = order[bounds[k] : bounds[k + 1]]
        counted = np.flatnonzero(wanted[k])
        if not len(counted):
            continue
        right = np.moveaxis(matches.matched[rows] & ~matches.ignored[rows], 0, -1)[counted]  # (A', T, N)
        wrong = np.moveaxis(~matches.matched[rows] & ~matches.ignored[rows], 0, -1)[counted]
        hits, misses = right.cumsum(axis=-1, dtype=np.float64), wrong.cumsum(axis=-1, dtype=np.float64)
        number = wanted[k, counted]
        for m, limit in enumerate((1, 10, most)):
            recall[:, k, counted, m] = (right[..., rank[rows] < limit].sum(axis=-1) / number[:, None]).T
        fraction = hits / number[:, None, None]
        exact = hits / (hits + misses + np.spacing(1))
        exact = np.maximum.accumulate(exact[..., ::-1], axis=-1)[..., ::-1]
        sure = found.scores[rows]
        for a, area in enumerate(counted):
            for t in range(steps):
                at = np.searchsorted(fraction[a, t], RECALL_POINTS, side="left")
                reached = at < len(rows)
                precision[t, :, k, area] = 0.0
                precision[t, reached, k, area] = exact[a, t, at[reached]]
                if area == 0:
                    scores[t, :, k] = 0.0
                    scores[t, reached, k] = sure[at[reached]]
    return Scores(precision, recall, scores, wanted[:, 0], most)
