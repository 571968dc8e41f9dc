"""Losses of the one-stage detectors and the localiser, summed without waiting for the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from tasks.detection.network import RETINANET_WEIGHTS, SSD_WEIGHTS, DenseOutputs, FCOSOutputs
from visionkit.detection.boxes import Objects, decode_distances, encode_boxes, encode_shares, match

CENTER_RADIUS = 1.5
"""FCOS: a place learns an object whose centre is nearer than so many strides."""

NEGATIVES = 3
"""SSD: background boxes for each one that stands for an object."""


def fcos_losses(outputs: FCOSOutputs, objects: Objects) -> dict[str, Tensor]:
    """Focal loss of the classes, GIoU loss of the boxes, cross entropy of the centerness (Tian et al., 2019)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    index, positive = fcos_assign(objects, anchors)
    count = positive.sum().clamp(min=1)
    boxes = _gather(objects.boxes, index)
    target = _one_hot(_gather(objects.labels, index), positive, outputs.logits)
    classes = sigmoid_focal_loss(outputs.logits.float(), target, reduction="sum") / count
    predicted = decode_distances(deltas, anchors)
    overlap = generalized_box_iou_loss(predicted, boxes, reduction="none")
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    reach = torch.cat([centre - boxes[..., :2], boxes[..., 2:] - centre], dim=-1).clamp(min=1e-3)
    near = torch.minimum(reach[..., :2], reach[..., 2:]) / torch.maximum(reach[..., :2], reach[..., 2:])
    wanted = near.prod(dim=-1).sqrt()
    middle = F.binary_cross_entropy_with_logits(outputs.centerness.float(), wanted, reduction="none")
    zero = torch.zeros((), device=overlap.device)
    return {
        "classes": classes,
        "boxes": torch.where(positive, overlap, zero).sum() / count,
        "centerness": torch.where(positive, middle, zero).sum() / count,
    }


def fcos_assign(objects: Objects, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Which object each place learns: the smallest of those in whose middle it lies and whose size is its level's.

    Args:
        objects: Of the batch.
        anchors: (A, 4), a square of one stride around each place.

    Returns:
        (B, A) index of the object and whether there is one.
    """
    centre, stride = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2] - anchors[:, 0]
    lowest = torch.where(stride <= stride.amin(), 0.0, 4 * stride)
    highest = torch.where(stride >= stride.amax(), torch.inf, 8 * stride)
    rows = []
    for boxes, valid in zip(objects.boxes, objects.valid, strict=True):
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        away = (centre[:, None] - middle).abs().amax(dim=-1)
        sides = torch.cat([centre[:, None] - boxes[:, :2], boxes[:, 2:] - centre[:, None]], dim=-1)
        reach = sides.amax(dim=-1)
        fits = (away < CENTER_RADIUS * stride[:, None]) & (sides.amin(dim=-1) > 0) & valid
        fits = fits & (reach > lowest[:, None]) & (reach < highest[:, None])
        area = torch.where(fits, (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1), torch.inf)
        smallest, index = area.min(dim=1)
        rows.append((index, smallest < torch.inf))
    index, positive = (torch.stack(column) for column in zip(*rows, strict=True))
    return index, positive


def retinanet_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Focal loss of the classes and L1 loss of the deltas, each a mean over pictures (Lin et al., 2017)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    found = match(objects, anchors, 0.5, 0.4, low_quality=True)
    count = found.positive.sum(dim=1).clamp(min=1)
    target = _one_hot(_gather(objects.labels, found.partner), found.positive, outputs.logits)
    focal = sigmoid_focal_loss(outputs.logits.float(), target, reduction="none").sum(dim=-1)
    used = found.positive | found.negative
    wanted = encode_boxes(_gather(objects.boxes, found.partner), anchors, RETINANET_WEIGHTS)
    distance = (deltas.float() - wanted).abs().sum(dim=-1)
    return {
        "classes": (_masked(focal, used) / count).mean(),
        "boxes": (_masked(distance, found.positive) / count).mean(),
    }


def ssd_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Cross entropy with the hardest background boxes, and smooth L1 loss of the deltas (Liu et al., 2016)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    found = match(objects, anchors, 0.5, 0.5, low_quality=False, claim=True)
    total = found.positive.sum().clamp(min=1)
    wanted = encode_boxes(_gather(objects.boxes, found.partner), anchors, SSD_WEIGHTS)
    distance = F.smooth_l1_loss(deltas.float(), wanted, reduction="none").sum(dim=-1)
    labels = torch.where(found.positive, 1 + _gather(objects.labels, found.partner), 0)
    entropy = F.cross_entropy(outputs.logits.float().transpose(1, 2), labels, reduction="none")
    # A picture without objects still teaches that nothing is there.
    hardest = (NEGATIVES * found.positive.sum(dim=1, keepdim=True)).clamp(min=NEGATIVES)
    order = torch.where(found.positive, -torch.inf, entropy.detach()).argsort(dim=1, descending=True).argsort(dim=1)
    background = (order < hardest) & ~found.positive
    return {
        "classes": _masked(entropy, found.positive | background).sum() / total,
        "boxes": _masked(distance, found.positive).sum() / total,
    }


def localizer_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Cross entropy of the class and L1 loss of the box, in shares of the picture; of several objects the largest.

    A picture without an object teaches the background and no box.

    Args:
        outputs: (B, 1, ...) of `LocalizerNetwork`; its one anchor is the picture.
        objects: Of the batch.
    """
    deltas, whole = outputs.deltas, outputs.anchors
    assert deltas is not None and whole is not None
    area = (objects.boxes[..., 2:] - objects.boxes[..., :2]).prod(dim=-1)
    index = torch.where(objects.valid, area, -torch.inf).argmax(dim=1, keepdim=True)
    there = objects.valid.any(dim=1)
    box = _gather(objects.boxes, index)
    labels = torch.where(there, 1 + _gather(objects.labels, index)[:, 0], 0)
    distance = (deltas - encode_shares(box, whole)).abs().sum(dim=-1)
    return {
        "classes": F.cross_entropy(outputs.logits[:, 0].float(), labels),
        "boxes": _masked(distance, there[:, None]).sum() / there.sum().clamp(min=1),
    }


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """(B, N, ...) values of objects by the (B, A) index."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def _one_hot(labels: Tensor, positive: Tensor, logits: Tensor) -> Tensor:
    target = torch.zeros(logits.shape, device=logits.device)
    return target.scatter_(2, labels[..., None], positive[..., None].float())


def _masked(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over anchors of the values under the mask, one a picture."""
    return torch.where(mask, values, torch.zeros((), device=values.device)).sum(dim=1)
