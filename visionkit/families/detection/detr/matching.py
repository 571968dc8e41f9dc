"""Bipartite matching of queries and objects: the cost of all stages on the device, one transfer, scipy's solver."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionkit.families.detection.boxes import Objects


class MatchWeights(NamedTuple):
    """What the parts of a matching cost count (RT-DETR's values).

    Attributes:
        classes: Focal loss of the object's class.
        boxes: L1 distance of center and sides.
        giou: Generalized overlap.
        alpha: Focal loss's balance.
        gamma: Focal loss's exponent.
    """

    classes: float = 2.0
    boxes: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0


class Matched(NamedTuple):
    """Which object each query stands for.

    Attributes:
        stages: (S, B, Q) int64, of each stage by itself; -1 for none.
        union: (B, Q) int64, the object that a query was matched with most often, over all stages (GO-LSD: Peng et al.,
            2024); -1 for none.
        pairs: (M, 2 + S) int64 on the CPU: image, object and its query in each stage, of objects that have one in all.
    """

    stages: Tensor
    union: Tensor
    pairs: Tensor


def corners_of(boxes: Tensor) -> Tensor:
    """(..., 4) center and sides to x1, y1, x2, y2."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU (Rezatofighi et al., 2019) of (..., 4) boxes x1, y1, x2, y2 that broadcast."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    union = sum((each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (boxes, others)) - shared
    around = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    hull = around.clamp(min=0).prod(dim=-1).clamp(min=1e-12)
    iou = shared / union.clamp(min=1e-12)
    return iou, iou - (hull - union) / hull


@torch.no_grad()
def matching_cost(logits: Tensor, boxes: Tensor, objects: Objects, weights: MatchWeights) -> Tensor:
    """(S, B, Q, N) cost of every query for every object; infinite for objects that are none.

    Args:
        logits: (S, B, Q, K).
        boxes: (S, B, Q, 4) center and sides.
        objects: (B, N) objects, boxes likewise.
        weights: What the parts count.
    """
    scores = logits.float().sigmoid()
    rows = objects.labels[None, :, None].expand(*scores.shape[:3], -1)
    own = scores.gather(-1, rows)
    hit = weights.alpha * (1 - own) ** weights.gamma * -(own + 1e-8).log()
    miss = (1 - weights.alpha) * own**weights.gamma * -(1 - own + 1e-8).log()
    apart = torch.cdist(boxes, objects.boxes[None].expand(len(boxes), -1, -1, -1), p=1)
    giou = overlaps(corners_of(boxes)[..., None, :], corners_of(objects.boxes)[None, :, None])[1]
    cost = weights.classes * (hit - miss) + weights.boxes * apart - weights.giou * giou
    return torch.where(objects.valid[None, :, None], cost.nan_to_num(nan=1.0), torch.inf)


@torch.no_grad()
def match_queries(
    logits: Tensor, boxes: Tensor, objects: Objects, weights: MatchWeights, more: Tensor | None = None
) -> Matched:
    """The matching of least cost, of every stage and image.

    Args:
        logits: See `matching_cost`.
        boxes: See `matching_cost`.
        objects: See `matching_cost`.
        weights: See `matching_cost`.
        more: (L, B, Q, N) further cost in the first L stages.
    """
    from scipy.optimize import linear_sum_assignment  # a fifth of a second to import

    table = matching_cost(logits, boxes, objects, weights)
    if more is not None:
        table[: len(more)] += torch.where(more.isnan(), 1.0, more)  # a diverged prediction is reported by its loss
    cost = table.cpu().numpy()
    stages, batch, queries, number = cost.shape
    found = np.full((stages + 1, batch, queries), -1, np.int64)
    owners = np.full((stages, batch, number), -1, np.int64)
    for image in range(batch):
        real = np.flatnonzero(np.isfinite(cost[0, image, 0]))
        votes = np.zeros((queries, number), np.int32)
        for stage in range(stages):
            rows, columns = linear_sum_assignment(cost[stage, image][:, real])
            found[stage, image, rows] = real[columns]
            owners[stage, image, real[columns]] = rows
            votes[rows, real[columns]] += 1
        taken = votes.any(axis=1)
        found[-1, image, taken] = votes[taken].argmax(axis=1)
    sent = torch.from_numpy(found).to(logits.device, non_blocking=True)
    images, rows = np.nonzero((owners >= 0).all(axis=0))
    pairs = torch.from_numpy(np.stack([images, rows, *owners[:, images, rows]], axis=1))
    return Matched(sent[:-1], sent[-1], pairs)
