"""Pascal VOC's average precision (Everingham et al., 2010), at an overlap of one half or any other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visionkit.families.detection.coco_eval.flat import Flat, meetings

POINTS11 = np.arange(11) / 10 - 1e-12
"""Recalls 0, .1, ... 1; fractions that are equal to one but for rounding reach it."""


class VocAp(NamedTuple):
    """(K,) average precision of each class, -1 where it has no object.

    Attributes:
        area: Under the whole precision-recall curve, the protocol since 2010.
        points11: Mean over recalls 0, .1, ... 1, the protocol of 2007.
    """

    area: np.ndarray
    points11: np.ndarray


def voc_ap50(found: Flat, true: Flat, classes: int, overlaps: object) -> VocAp:
    """`voc_ap` at an overlap of one half, which is VOC's own."""
    return voc_ap(found, true, classes, overlaps, 0.5)


def voc_ap(found: Flat, true: Flat, classes: int, overlaps: object, iou: float) -> VocAp:
    """VOC's AP: a found object counts where its most overlapped true one is not taken by a higher-scoring one yet.

    Unlike COCO's, an object whose best match is taken is wrong, even where another true one is near; crowds stand for
    VOC's difficult objects, which count neither way.

    Args:
        found: Objects found.
        true: Objects there are.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        iou: Overlap from which an object is found.
    """
    matches = voc_matches(found, true, classes, overlaps, iou)
    area, points = np.full(classes, -1.0), np.full(classes, -1.0)
    for k in range(classes):
        if number := int((matches.true_labels == k).sum()):
            area[k], points[k] = _areas(matches.right[matches.labels == k], number)
    return VocAp(area, points)


class VocMatches(NamedTuple):
    """Objects that count, found ones by class and falling score.

    Attributes:
        image: (N,) image of each found object.
        labels: (N,) its class.
        right: (N,) bool, it takes a true object.
        true_image: (M,) image of each true object.
        true_labels: (M,) its class.
    """

    image: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    true_image: np.ndarray
    true_labels: np.ndarray


def voc_matches(found: Flat, true: Flat, classes: int, overlaps: object, iou: float) -> VocMatches:
    """Matches found objects to true ones, as VOC does; arguments as in `voc_ap`."""
    crowd = true.crowd if len(true.crowd) else np.zeros(len(true), dtype=bool)
    plain = Flat(true.image, true.labels, true.boxes, true.areas, masks=true.masks)  # a difficult one overlaps as any
    order = np.lexsort((-found.scores, found.labels * (int(found.image.max()) + 1) + found.image if len(found) else []))
    found = found.take(order)
    rows = meetings(found.image * classes + found.labels, true.image * classes + true.labels)
    pairs = overlaps(found, plain, rows, iou)  # type: ignore[operator]
    best = np.full(len(found), -1)
    # The greatest overlap of each found object; the first of equal ones.
    by = np.lexsort((pairs.true, -pairs.iou, pairs.found))
    who, first = np.unique(pairs.found[by], return_index=True)
    best[who] = pairs.true[by][first]
    mine = np.lexsort((found.image, -found.scores, found.labels))
    taken = best[mine]
    counted = ~((taken >= 0) & crowd[taken]) if len(crowd) else np.ones(len(mine), dtype=bool)
    mine, taken = mine[counted], taken[counted]
    right = np.zeros(len(taken), dtype=bool)
    some = np.flatnonzero(taken >= 0)
    right[some[np.unique(taken[some], return_index=True)[1]]] = True  # a true object is of one class
    return VocMatches(found.image[mine], found.labels[mine], right, true.image[~crowd], true.labels[~crowd])


def _areas(right: np.ndarray, number: int) -> tuple[float, float]:
    hits = np.cumsum(right, dtype=np.float64)
    recall = hits / number
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    steps = np.diff(recall, prepend=0.0)
    at = np.searchsorted(recall, POINTS11, side="left")
    return float((steps * envelope[:-1]).sum()), float(envelope[np.minimum(at, len(right))].mean())
