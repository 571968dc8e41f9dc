"""Contrastive denoising: queries made of true boxes with noise, which know their object without being matched to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.layers import inverse_sigmoid


class Denoising(NamedTuple):
    """Noisy copies of the objects of a batch, in groups that do not see each other.

    A group holds every object twice: with a box near its own, to be restored, and with one farther away, to be refused.

    Attributes:
        labels: (B, D) int64; the number of classes for what pads a batch.
        boxes: (B, D, 4) logits of center and sides.
        objects: (B, D) int64, the object that is to be restored, or -1.
        mask: (D, D + Q) bool, True where a query does not see the other.
        groups: Number of groups.
    """

    labels: Tensor
    boxes: Tensor
    objects: Tensor
    mask: Tensor
    groups: int


def noisy_copies(
    objects: Objects, classes: int, queries: int, count: int, label_noise: float, box_noise: float
) -> Denoising:
    """Draws denoising queries (Zhang et al., 2023, DINO, arXiv 2203.03605).

    Args:
        objects: (B, N) objects; their boxes are center and sides as fractions of the image.
        classes: K.
        queries: Q, the queries that see none of these.
        count: Number of positive ones that is aimed at; groups are added as long as they fit, at least one.
        label_noise: Half of this fraction of the labels is drawn again at random.
        box_noise: Positive corners move by up to this part of half a side, negative ones by up to twice that.
    """
    boxes, labels, valid = objects
    number = boxes.shape[1]
    groups = max(1, count // number)
    total = 2 * number * groups
    negative = torch.arange(2 * number, device=boxes.device).ge(number).repeat(groups)
    index = torch.arange(number, device=boxes.device).repeat(2 * groups)
    labels, valid = torch.where(valid, labels, classes)[:, index], valid[:, index]
    changed = (torch.rand(labels.shape, device=boxes.device) < 0.5 * label_noise) & valid
    labels = torch.where(changed, torch.randint(0, classes, labels.shape, device=boxes.device), labels)
    copies = torch.where(objects.valid[..., None], boxes, 0.0)[:, index]
    center, half = copies[..., :2], copies[..., 2:] / 2
    corners = torch.cat([center - half, center + half], dim=-1)
    sign = torch.randint(0, 2, corners.shape, device=boxes.device) * 2.0 - 1.0
    move = torch.rand(corners.shape, device=boxes.device) + negative[None, :, None]
    corners = (corners + sign * move * torch.cat([half, half], dim=-1) * box_noise).clamp(0, 1)
    noisy = torch.cat([(corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]).abs()], dim=-1)
    group = torch.arange(total, device=boxes.device) // (2 * number)
    apart = group[:, None] != group
    mask = torch.cat([apart, apart.new_zeros(total, queries)], dim=1)
    restored = torch.where(valid & ~negative, index, -1)
    return Denoising(labels, inverse_sigmoid(noisy), restored, mask, groups)
