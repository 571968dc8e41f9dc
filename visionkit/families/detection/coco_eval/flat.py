"""Objects of many images in flat arrays, and the overlaps of those that can meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from visionkit.masks import Rle, mask_ious

_CHUNK = 1 << 20  # pairs of boxes at a time


@dataclass(frozen=True, eq=False)
class Flat:
    """Objects of many images, true ones or found ones.

    Attributes:
        image: (N,) int64 number of the image, which also orders objects of equal score.
        labels: (N,) int64 class.
        boxes: (N, 4) float64 x1, y1, x2, y2 in file pixels.
        areas: (N,) float64 in file pixels: the annotation's own, or of the found box or mask.
        scores: (N,) float64 of found objects; empty for true ones.
        crowd: (N,) bool of true objects: a region that is left out of the count.
        masks: One run-length mask per object; empty where boxes are measured.
        extents: (N,) float64 width times height of each box as its file states them; empty where the corners are all
            that is known. COCO's boxes are x, y, width, height, and x + width - x loses the last bit, which moves an
            overlap of exactly .75 to the other side of its threshold.
    """

    image: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    masks: Sequence[Rle] = ()
    extents: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> Flat:
        """Some of the objects, in that order."""
        masks = [self.masks[row] for row in rows] if len(self.masks) else ()
        scores = self.scores[rows] if len(self.scores) else self.scores
        crowd = self.crowd[rows] if len(self.crowd) else self.crowd
        extents = self.extents[rows] if len(self.extents) else self.extents
        return Flat(
            self.image[rows], self.labels[rows], self.boxes[rows], self.areas[rows], scores, crowd, masks, extents
        )

    def box_extents(self, rows: np.ndarray) -> np.ndarray:
        """Width times height of the boxes of some objects."""
        return self.extents[rows] if len(self.extents) else box_areas(self.boxes[rows])


class Pairs(NamedTuple):
    """Overlaps of found and true objects, by found object.

    Attributes:
        found: (P,) row of the found object, rising.
        true: (P,) row of the true object, rising within a found one.
        iou: (P,) float64.
    """

    found: np.ndarray
    true: np.ndarray
    iou: np.ndarray


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """(N,) areas of (N, 4) boxes."""
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def meetings(found_keys: np.ndarray, true_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a found and a true object of the same key, by found object.

    Args:
        found_keys: (N,) int64, for example image and class in one number.
        true_keys: (M,) int64.

    Returns:
        (P,) rows of found objects, rising, and (P,) rows of true ones, rising within a found one.
    """
    order = np.argsort(true_keys, kind="stable")
    keys = true_keys[order]
    first = np.searchsorted(keys, found_keys, side="left")
    counts = np.searchsorted(keys, found_keys, side="right") - first
    found = np.repeat(np.arange(len(found_keys)), counts)
    ends = np.cumsum(counts)
    place = np.arange(len(found)) - np.repeat(ends - counts, counts)
    return found, order[np.repeat(first, counts) + place]


def box_pairs(found: Flat, true: Flat, rows: tuple[np.ndarray, np.ndarray], least: float = 0.0) -> Pairs:
    """Overlaps of boxes; a crowd's over the area of the found box alone, as COCO counts it.

    Args:
        found: Objects found.
        true: Objects there are.
        rows: Pairs, see `meetings`.
        least: Smaller overlaps are left out.
    """
    cuts = [slice(at, at + _CHUNK) for at in range(0, len(rows[0]), _CHUNK)]
    kept = [_box_chunk(found, true, rows[0][cut], rows[1][cut], least) for cut in cuts]
    if not kept:
        return Pairs(rows[0], rows[1], np.zeros(0))
    return Pairs(*(np.concatenate(part) for part in zip(*kept, strict=True)))


def _box_chunk(found: Flat, true: Flat, d: np.ndarray, g: np.ndarray, least: float) -> Pairs:
    a, b = found.boxes[d], true.boxes[g]
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    meet = np.flatnonzero((width > 0) & (height > 0))
    d, g, shared = d[meet], g[meet], width[meet] * height[meet]
    own = found.box_extents(d)
    union = own + true.box_extents(g) - shared
    if len(true.crowd):
        union = np.where(true.crowd[g], own, union)
    iou = shared / np.maximum(union, np.finfo(np.float64).tiny)
    near = iou >= least
    return Pairs(d[near], g[near], iou[near])


def mask_pairs(found: Flat, true: Flat, rows: tuple[np.ndarray, np.ndarray], least: float = 0.0) -> Pairs:
    """Overlaps of run-length masks; arguments as in `box_pairs`."""
    pairs = Pairs(rows[0], rows[1], np.zeros(len(rows[0])))
    if not len(rows[0]):
        return pairs
    image, label = found.image[rows[0]], found.labels[rows[0]]
    starts = np.append(0, np.flatnonzero((np.diff(image) != 0) | (np.diff(label) != 0)) + 1)
    ends = np.append(starts[1:], len(image))
    widths = np.searchsorted(rows[0], rows[0][starts], side="right") - starts
    for start, end, width in zip(starts.tolist(), ends.tolist(), widths.tolist(), strict=True):
        # Every found object of an image and class stands beside every true one: a block of D rows of G pairs.
        there = rows[1][start : start + width]
        found_masks = [found.masks[k] for k in rows[0][start:end:width]]
        crowd = true.crowd[there].tolist() if len(true.crowd) else None
        pairs.iou[start:end] = mask_ious(found_masks, [true.masks[k] for k in there], crowd).ravel()
    near = pairs.iou >= least
    return Pairs(*(part[near] for part in pairs))
