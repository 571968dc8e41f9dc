"""The losses of RT-DETR and D-FINE: padded to one shape, so nothing waits for the device but the matching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.distribution import bins_of, distillation_loss, localization_loss
from visionkit.families.detection.detr.matching import Matched, corners_of, overlaps

ALPHA, GAMMA = 0.75, 2.0
"""Of the varifocal loss (Zhang et al., 2021)."""
TEMPERATURE = 5.0
"""Of the self-distillation."""
WEIGHTS: Mapping[str, float] = {"classes": 1.0, "boxes": 5.0, "giou": 2.0, "corners": 0.15, "distillation": 1.5}


class Stages(NamedTuple):
    """What the stages of one set of queries state.

    Attributes:
        logits: (S, B, Q, K).
        boxes: (S, B, Q, 4) center and sides as fractions of the image.
        corners: (L, B, Q, 4 * (bins + 1)) of the first L stages, the layers, or None.
        first: (B, Q, 4) boxes that the corners begin at, or None.
    """

    logits: Tensor
    boxes: Tensor
    corners: Tensor | None = None
    first: Tensor | None = None


class Counts(NamedTuple):
    """What the losses of a set of queries are divided by.

    Attributes:
        classes: Objects, at least 1, for the classes.
        boxes: Matched queries, at least 1, for the boxes.
        matched: Matched queries and others of the distillation.
        rest: The others.
    """

    classes: Tensor
    boxes: Tensor
    matched: Tensor
    rest: Tensor


def matched_losses(
    stages: Stages, objects: Objects, matched: Matched, bins: Tensor | None, scale: float, shared: bool = False
) -> tuple[dict[str, Tensor], Counts]:
    """Losses of queries that are matched with the objects, summed over the stages.

    Args:
        stages: What they state.
        objects: (B, N) objects; their boxes are center and sides as fractions of the image.
        matched: Which object each query stands for.
        bins: Offsets of D-FINE's distributions, which also make boxes train on the matches of all stages; None for
            RT-DETR's losses.
        scale: Curvature of the bins.
        shared: Divide by the mean numbers of all processes, which only a training may ask for: all of them must call.

    Returns:
        Named terms, already weighted, and their divisors.
    """
    near = matched.stages if bins is None else matched.union[None].expand_as(matched.stages)
    there = (matched.union >= 0).sum()
    number = torch.stack([objects.valid.sum(), there]).float()
    classes, near_count = (mean_of_processes(number) if shared else number).clamp(min=1)
    boxes = classes if bins is None else near_count
    counts = Counts(classes, boxes, there, matched.union.numel() - there)
    return stage_losses(stages, objects, matched.stages, near, counts, bins, scale), counts


def denoising_losses(
    stages: Stages, objects: Objects, restored: Tensor, groups: int, counts: Counts, bins: Tensor | None, scale: float
) -> Tensor:
    """Loss of denoising queries, whose objects are known.

    Args:
        stages: What they state.
        objects: See `matched_losses`.
        restored: (B, D) int64, object of each query, or -1.
        groups: Number of groups of copies.
        counts: Of the matched queries.
        bins: See `matched_losses`.
        scale: See `matched_losses`.
    """
    known = restored[None].expand(stages.logits.shape[:3])
    each = counts._replace(classes=counts.classes * groups, boxes=counts.classes * groups)
    return torch.stack(list(stage_losses(stages, objects, known, known, each, bins, scale).values())).sum()


def mean_of_processes(number: Tensor) -> Tensor:
    """The mean of a tensor over all processes, so that each object weighs the same wherever it lies."""
    if not dist.is_available() or not dist.is_initialized():
        return number
    number = number.clone()
    dist.all_reduce(number)
    return number / dist.get_world_size()


def stage_losses(
    stages: Stages, objects: Objects, own: Tensor, near: Tensor, counts: Counts, bins: Tensor | None, scale: float
) -> dict[str, Tensor]:
    """Named terms, weighted and summed over the stages.

    Args:
        stages: What the queries state.
        objects: See `matched_losses`.
        own: (S, B, Q) int64, object whose class a query is trained on, or -1.
        near: (S, B, Q) int64, object whose box it is trained on, or -1.
        counts: Divisors.
        bins: See `matched_losses`.
        scale: See `matched_losses`.
    """
    terms = {"classes": varifocal_loss(stages, objects, own) / counts.classes}
    wanted, there = _boxes_of(objects, near), near >= 0
    iou, giou = overlaps(corners_of(stages.boxes), corners_of(wanted))
    terms["boxes"] = _masked((stages.boxes - wanted).abs().sum(dim=-1), there).sum() / counts.boxes
    terms["giou"] = _masked(1 - giou, there).sum() / counts.boxes
    if stages.corners is not None and stages.first is not None and bins is not None:
        layers = len(stages.corners)
        sides = stages.corners.float().unflatten(-1, (4, len(bins)))
        target = bins_of(stages.first, wanted[0], bins, scale)
        quality, there = iou[:layers].detach(), there[:layers]
        located = localization_loss(sides.log_softmax(dim=-1), target).sum(dim=-1) * quality
        terms["corners"] = _masked(located, there).sum() / counts.boxes
        terms["distillation"] = _distillation(sides, stages.logits[layers - 1], quality, there, counts)
    return {name: WEIGHTS[name] * value for name, value in terms.items()}


def varifocal_loss(stages: Stages, objects: Objects, own: Tensor) -> Tensor:
    """Sum of the varifocal loss: the score that a query is trained to give is its box's overlap with the object."""
    there, index = own >= 0, own.clamp(min=0)
    overlap = overlaps(corners_of(stages.boxes.detach()), corners_of(_boxes_of(objects, own)))[0]
    labels = objects.labels[None].expand(len(own), -1, -1).gather(2, index)
    logits = stages.logits.float()
    zero = torch.zeros_like(logits)
    hit = zero.scatter(3, labels[..., None], there[..., None].float())
    target = hit * torch.where(there, overlap, 0.0)[..., None]
    weight = ALPHA * logits.detach().sigmoid() ** GAMMA * (1 - hit) + target
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def _distillation(sides: Tensor, teacher_logits: Tensor, quality: Tensor, there: Tensor, counts: Counts) -> Tensor:
    """Decoupled distillation focal loss: the last layer's distributions teach those before, matched and not.

    Args:
        sides: (L, B, Q, 4, bins + 1).
        teacher_logits: (B, Q, K) of the last layer.
        quality: (L, B, Q) overlaps of the boxes with their objects.
        there: (L, B, Q) bool, the query has an object.
        counts: Divisors.
    """
    students, there, quality = sides[:-1], there[:-1], quality[:-1]
    if not len(students):
        return sides.sum() * 0
    confident = teacher_logits.detach().float().sigmoid().amax(dim=-1)
    weight = torch.where(there, quality, confident)
    each = weight * distillation_loss(students, sides[-1], TEMPERATURE).mean(dim=-1)
    means = [_masked(each, mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp(min=1) for mask in (there, ~there)]
    matched, rest = counts.matched.sqrt(), counts.rest.sqrt()
    return ((means[0] * matched + means[1] * rest) / (matched + rest)).sum()


def _boxes_of(objects: Objects, index: Tensor) -> Tensor:
    """(S, B, Q, 4) boxes of objects by their (S, B, Q) numbers; the first one's for -1."""
    rows = index.clamp(min=0)[..., None].expand(-1, -1, -1, 4)
    return objects.boxes[None].expand(len(index), -1, -1, -1).gather(2, rows)


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, torch.zeros((), device=values.device))
