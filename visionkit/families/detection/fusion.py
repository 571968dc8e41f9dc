"""Weighted box fusion (Solovyev et al., 2021): what several passes over one image found, as one prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from visionkit.predictions import Detections, Instances

FUSION_IOU = 0.55
"""Overlap from which boxes of two passes are one object, as published."""


class Fused(NamedTuple):
    """Fused boxes, the highest score first.

    Attributes:
        boxes: (N, 4) float64, the mean of the members' boxes weighted by their scores.
        scores: (N,) float64, the mean of the members' scores, times the fraction of the passes that found the object.
        labels: (N,) int64.
        best: (N,) int64, the row of the highest-scoring member.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    best: np.ndarray


def fuse_boxes(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, passes: int, iou: float = FUSION_IOU
) -> Fused:
    """Fuses the boxes of several passes.

    By falling score, a box joins the fused box of its class that it overlaps most, if by more than `iou`, which moves
    to the weighted mean of its members at once; otherwise it begins a new one.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 of all passes.
        scores: (N,).
        labels: (N,) classes.
        passes: Number of passes. An object that fewer of them found loses score in proportion.
        iou: Overlap above which a box joins.
    """
    order = np.argsort(-scores, kind="stable")
    fused: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        clusters = _clusters(boxes[rows].astype(np.float64), scores[rows].astype(np.float64), iou)
        means, sums, counts, first = clusters
        score = sums / counts * np.minimum(counts, passes) / passes
        fused.append(np.column_stack([means, score, np.full(len(score), label), rows[first]]))
    found = np.concatenate(fused) if fused else np.zeros((0, 7))
    found = found[np.argsort(-found[:, 4], kind="stable")]
    return Fused(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), found[:, 6].astype(np.int64))


def _clusters(boxes: np.ndarray, scores: np.ndarray, iou: float) -> tuple[np.ndarray, ...]:
    """Of one class by falling score: mean boxes, sums of scores, numbers of members, row of the first member."""
    means, sums, counts = np.zeros_like(boxes), np.zeros(len(boxes)), np.zeros(len(boxes))
    first: list[int] = []
    for row, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        here = len(first)
        known = means[:here]
        shared = np.clip(np.minimum(known[:, 2:], box[2:]) - np.maximum(known[:, :2], box[:2]), 0, None).prod(axis=1)
        union = (known[:, 2:] - known[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
        overlap = shared / np.maximum(union, 1e-12)
        k = int(overlap.argmax()) if here else 0
        if not here or overlap[k] <= iou:
            k = here
            first.append(row)
        weight = max(score, 1e-12)  # scores of 0 have a mean too
        means[k] = (means[k] * sums[k] + box * weight) / (sums[k] + weight)
        sums[k], counts[k] = sums[k] + weight, counts[k] + 1
    here = len(first)
    return means[:here], sums[:here], counts[:here], np.array(first, dtype=np.int64)


def fuse_detections(
    parts: Sequence[Detections], score: float = 0.0, most: int = 0, iou: float = FUSION_IOU
) -> Detections:
    """One prediction from several on the same image.

    Args:
        parts: Predictions in file pixels, one per pass. A mask is that of the highest-scoring member.
        score: Lowest fused score that is kept.
        most: Objects that are kept, at most; 0 keeps all.
        iou: See `fuse_boxes`.
    """
    boxes = np.concatenate([part.boxes for part in parts])
    scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels"))
    fused = fuse_boxes(boxes, scores, labels, len(parts), iou)
    kept = slice(most or None)
    good = np.flatnonzero(fused.scores >= score)[kept]
    like = parts[0]
    arguments: dict[str, Any] = {
        "boxes": fused.boxes[good].astype(like.boxes.dtype),
        "scores": fused.scores[good].astype(like.scores.dtype),
        "labels": fused.labels[good],
    }
    if isinstance(like, Instances):
        masks = [rle for part in parts for rle in part.masks]  # type: ignore[attr-defined]
        arguments["masks"] = tuple(masks[row] for row in fused.best[good])
    return replace(like, **arguments)
