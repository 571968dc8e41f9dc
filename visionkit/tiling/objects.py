"""How the objects that were found in several tiles of an image become one prediction.

Every image is run on whole too, so what is larger than a tile is found there. An object on a seam is whole in one tile,
if it fits into the overlap; otherwise its parts, each cut by the same seam, are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visionkit.masks import Rle, mask_union
from visionkit.predictions import Detections, Instances, Prediction
from visionkit.types import View

_NEAR = 0.02
"""A box that ends within this fraction of a tile's side from its inner border is cut by it."""

_INSIDE = 0.7
"""A cut part that lies so far in a higher-scoring whole is a part of it."""


def merge_tiles(parts: Sequence[Prediction], views: Sequence[View], overlap: float = 0.5, most: int = 0) -> Detections:
    """One prediction from those on the whole image and on its tiles.

    Args:
        parts: What was found in the whole image, then in each tile, in file pixels of the image.
        views: The tiles.
        overlap: Of two whole objects of one class that overlap by more, the one with the lower score is
            dropped.
        most: Objects that are kept, at most; 0 keeps all.

    Returns:
        The highest score first. Objects that are whole somewhere win over their cut parts; what remains of cut parts is
        joined across the seam, masks too.
    """
    found = [part for part in parts if isinstance(part, Detections)]
    whole, *others = found
    boxes = np.concatenate([each.boxes for each in found]).astype(np.float64)
    scores = np.concatenate([each.scores for each in found])
    labels = np.concatenate([each.labels for each in found])
    cut = np.concatenate([np.zeros((len(whole), 4), dtype=bool), *map(_cut, others, views, [whole.size] * len(views))])
    masks: list[Rle] | None = None
    if isinstance(whole, Instances):
        masks = [rle for each in found for rle in each.masks]  # type: ignore[attr-defined]
    # Whole objects by falling score, then the parts.
    order = np.lexsort((-scores, cut.any(axis=1)))
    kept: list[int] = []
    for row in order:
        mates = np.array([k for k in kept if labels[k] == labels[row]], dtype=np.int64)
        mates_cut = np.asarray(cut[mates].any(axis=1))
        if len(mates) and _covered(boxes[row], boxes[mates], bool(cut[row].any()), mates_cut, overlap):
            continue
        kept.append(int(row))
    groups = _joined(kept, boxes, labels, cut)
    best = [max(group, key=lambda k: scores[k]) for group in groups]
    united = [np.concatenate([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)]) for group in groups]
    arguments: dict[str, Any] = {
        "boxes": np.array(united).reshape(-1, 4).astype(whole.boxes.dtype),
        "scores": scores[best],
        "labels": labels[best],
    }
    if masks is not None:
        arguments["masks"] = tuple(
            masks[group[0]] if len(group) == 1 else mask_union([masks[k] for k in group]) for group in groups
        )
    merged = replace(whole, **arguments)
    return merged.chosen(np.arange(min(most, len(merged)))) if most else merged


def _cut(part: Detections, view: View, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) bool: which borders of the tile, left, top, right, bottom, cut a box; the image's own cut none."""
    x1, y1, x2, y2 = view.box
    near = _NEAR * max(x2 - x1, y2 - y1)
    inner = np.array([x1 > 0, y1 > 0, x2 < size[1], y2 < size[0]])
    return np.asarray((np.abs(part.boxes - np.array([x1, y1, x2, y2])) < near) & inner)


def _covered(box: np.ndarray, others: np.ndarray, is_cut: bool, others_cut: np.ndarray, overlap: float) -> bool:
    """Whether an object is already there: the same one, or the whole of which this is a part."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    own, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    same = shared > overlap * (own + areas - shared)
    part = is_cut & ~others_cut & (shared > _INSIDE * own)
    return bool((same | part).any())


def _joined(kept: list[int], boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> list[list[int]]:
    """Groups of parts that are one object: of one class, cut by facing seams, meeting, as wide along the seam."""
    groups = [[row] for row in kept if not cut[row].any()]
    open_parts = [[row] for row in kept if cut[row].any()]
    while open_parts:
        group = open_parts.pop(0)
        found = next((k for k, other in enumerate(open_parts) if _any_meet(group, other, boxes, labels, cut)), None)
        if found is None:
            groups.append(group)
        else:
            open_parts[found] = group + open_parts[found]
    return _without_shreds(groups, boxes, labels, cut)


def _without_shreds(groups: list[list[int]], boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> list[list[int]]:
    """Leaves out joined parts that lie in what others make: a row of tiles can see but the edge of an object."""
    hulls = [np.concatenate([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)]) for group in groups]
    out = []
    for number, group in enumerate(groups):
        area = (hulls[number][2:] - hulls[number][:2]).prod()
        larger = [
            hull
            for other, hull in zip(groups, hulls, strict=True)
            if labels[other[0]] == labels[group[0]] and (hull[2:] - hull[:2]).prod() > area
        ]
        whole = not cut[group].any()
        if whole or not larger or not _covered(hulls[number], np.array(larger), True, np.zeros(len(larger), bool), 1.0):
            out.append(group)
    return out


def _any_meet(first: list[int], second: list[int], boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> bool:
    return any(_meet(a, b, boxes, labels, cut) for a in first for b in second)


def _meet(a: int, b: int, boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> bool:
    if labels[a] != labels[b]:
        return False
    low, high = np.maximum(boxes[a, :2], boxes[b, :2]), np.minimum(boxes[a, 2:], boxes[b, 2:])
    shared = high - low
    for axis in range(2):
        facing = (cut[a, axis + 2] and cut[b, axis]) or (cut[b, axis + 2] and cut[a, axis])
        along = 1 - axis
        span = max(boxes[a, along + 2], boxes[b, along + 2]) - min(boxes[a, along], boxes[b, along])
        if facing and shared[axis] >= 0 and shared[along] > 0.5 * span:
            return True
    return False
