"""Which class is taken for which: a confusion matrix of objects."""

from __future__ import annotations

import numpy as np

from visionkit.families.detection.coco_eval.flat import Flat, meetings


def confusion_matrix(
    found: Flat, true: Flat, classes: int, overlaps: object, score: float = 0.5, iou: float = 0.5
) -> np.ndarray:
    """Counts of true by found class; the last row is found where nothing is, the last column is missed.

    Objects are paired whatever their classes, the greatest overlap first, each at most once. Crowds are left
    out, and so is what lies in them.

    Args:
        found: Objects found.
        true: Objects there are.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        score: Found objects from this score on.
        iou: Pairs from this overlap on.

    Returns:
        (K + 1, K + 1) int64.
    """
    out = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    crowd = true.crowd if len(true.crowd) else np.zeros(len(true), dtype=bool)
    found = found.take(np.flatnonzero(found.scores >= score))
    order = np.argsort(found.image, kind="stable")
    found = found.take(order)
    anyone = Flat(found.image, np.zeros_like(found.labels), found.boxes, found.areas, found.scores, masks=found.masks)
    pairs = overlaps(anyone, true, meetings(found.image, true.image), iou)  # type: ignore[operator]
    free_found, free_true = np.ones(len(found), dtype=bool), ~crowd
    d, g, value = (part[~crowd[pairs.true]] for part in pairs)
    while len(d):
        # A pair that is the best for both of its members cannot be taken from either.
        best_d, best_g = np.zeros(len(found)), np.zeros(len(true))
        np.maximum.at(best_d, d, value)
        np.maximum.at(best_g, g, value)
        mutual = np.flatnonzero((value == best_d[d]) & (value == best_g[g]))
        for k in mutual:  # equal overlaps can make several pairs of one object the best
            if free_found[d[k]] and free_true[g[k]]:
                free_found[d[k]] = free_true[g[k]] = False
                out[true.labels[g[k]], found.labels[d[k]]] += 1
        left = free_found[d] & free_true[g]
        d, g, value = d[left], g[left], value[left]
    np.add.at(out[:, classes], true.labels[free_true], 1)
    in_crowd = np.zeros(len(found), dtype=bool)
    in_crowd[pairs.found[crowd[pairs.true]]] = True
    np.add.at(out[classes], found.labels[free_found & ~in_crowd], 1)
    return out
