"""Arithmetic of boxes during training: coders, matching, sampling. Shapes are static and nothing waits for the device.

Boxes are x1, y1, x2, y2 in input pixels. The formulas are those of R-CNN (Girshick et al., 2014) and FCOS (Tian et al.,
2019) with torchvision's constants, so that its public weights mean the same here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]

_LARGEST_GROWTH = math.log(1000.0 / 16)
"""Of a side, as a logarithm; more would overflow."""


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """(..., 4) boxes as (..., 4) shifts and logarithmic scalings of anchors; the inverse of `decode_boxes`."""
    sides, middle = _sides_and_middle(anchors)
    box_sides, box_middle = _sides_and_middle(boxes)
    # An anchor that pads a batch has no sides.
    sides, box_sides = sides.clamp(min=1e-3), box_sides.clamp(min=1e-3)
    wx, wy, ww, wh = weights
    shift = (box_middle - middle) / sides
    growth = (box_sides / sides).log()
    return torch.stack([shift[..., 0] * wx, shift[..., 1] * wy, growth[..., 0] * ww, growth[..., 1] * wh], dim=-1)


def decode_boxes(deltas: Tensor, anchors: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """(..., 4) deltas of (..., 4) anchors to (..., 4) boxes."""
    deltas = deltas.float()
    sides, middle = _sides_and_middle(anchors)
    wx, wy, ww, wh = weights
    dx, dy, dw, dh = deltas.unbind(-1)
    center_x = dx / wx * sides[..., 0] + middle[..., 0]
    center_y = dy / wy * sides[..., 1] + middle[..., 1]
    half_w = 0.5 * ((dw / ww).clamp(max=_LARGEST_GROWTH).exp() * sides[..., 0])
    half_h = 0.5 * ((dh / wh).clamp(max=_LARGEST_GROWTH).exp() * sides[..., 1])
    return torch.stack([center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h], dim=-1)


def decode_distances(distances: Tensor, anchors: Tensor) -> Tensor:
    """(..., 4) distances of left, top, right and bottom side from the anchor's center, in anchor sides, to boxes."""
    sides, middle = _sides_and_middle(anchors)
    reach = distances.float() * torch.cat([sides, sides], dim=-1)
    return torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)


def encode_fractions(boxes: Tensor, image: Tensor) -> Tensor:
    """(..., 4) boxes as center and sides, as fractions of the sides of an image (1, 4) that begins at 0."""
    sides, middle = _sides_and_middle(boxes)
    return torch.cat([middle, sides], dim=-1) / image[:, 2:].repeat(1, 2)


def decode_fractions(fractions: Tensor, image: Tensor) -> Tensor:
    """The inverse of `encode_fractions`."""
    middle, half = fractions[..., :2] * image[:, 2:], fractions[..., 2:] * image[:, 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., 4) boxes cut off at an image of that height and width."""
    x, y = boxes[..., 0::2].clamp(0, size[1]), boxes[..., 1::2].clamp(0, size[0])
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def _sides_and_middle(boxes: Tensor) -> tuple[Tensor, Tensor]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides, boxes[..., :2] + 0.5 * sides


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., N, 4) and (..., M, 4) boxes to (..., N, M) intersection over union; 0 for boxes without area."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area, other = (_sides_and_middle(each)[0].clamp(min=0).prod(dim=-1) for each in (boxes, others))
    return shared / (area[..., :, None] + other[..., None, :] - shared).clamp(min=1e-9)


# ---------------------------------------------------------------------- targets


class Objects(NamedTuple):
    """The objects of a batch, padded to the same number per image.

    Attributes:
        boxes: (B, N, 4), N at least 1.
        labels: (B, N) int64.
        valid: (B, N) bool; crowd regions, boxes without area and filling are not.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor


def gather_objects(target: Sequence[Mapping[str, Any]], device: torch.device) -> Objects:
    """The list of targets that a batch carries, as tensors."""
    most = max(1, *(len(each["boxes"]) for each in target))
    boxes = torch.zeros(len(target), most, 4, device=device)
    labels = torch.zeros(len(target), most, dtype=torch.int64, device=device)
    valid = torch.zeros(len(target), most, dtype=torch.bool, device=device)
    for row, each in enumerate(target):
        count = len(each["boxes"])
        if not count:
            continue
        boxes[row, :count] = each["boxes"].to(device)
        labels[row, :count] = each["labels"].to(device)
        good = (each["boxes"][:, 2:] > each["boxes"][:, :2]).all(dim=1)
        if "iscrowd" in each:
            good = good & (each["iscrowd"] == 0)
        valid[row, :count] = good.to(device)
    return Objects(boxes, labels, valid)


class Matches(NamedTuple):
    """Which object each anchor stands for.

    Attributes:
        partner: (B, A) int64, the object of highest overlap.
        positive: (B, A) bool, the anchor stands for it.
        negative: (B, A) bool, the anchor stands for background. What is neither is left out.
    """

    partner: Tensor
    positive: Tensor
    negative: Tensor


def match(
    objects: Objects, anchors: Tensor, high: float, low: float, *, low_quality: bool = False, claim: bool = False
) -> Matches:
    """Assigns objects to anchors by overlap.

    Args:
        objects: Target objects of the batch.
        anchors: (A, 4), or (B, A, 4) where each image has its own.
        high: Overlap from which an anchor stands for the object.
        low: Overlap below which it is background.
        low_quality: The anchors that overlap an object most stand for something too, whatever the overlap.
        claim: The anchor that overlaps an object most stands for that object, even where it overlaps another one more.
    """
    rows = []
    for k in range(len(objects.boxes)):  # one image at a time: the table is objects by anchors
        own = anchors if anchors.dim() == 2 else anchors[k]
        overlap = pairwise_iou(objects.boxes[k], own) * objects.valid[k, :, None]
        best, index = overlap.max(dim=0)
        positive, negative = best >= high, best < low
        if low_quality:
            most = overlap.amax(dim=1, keepdim=True)
            closest = ((overlap == most) & (most > 0)).any(dim=0)
            positive, negative = positive | closest, negative & ~closest
        if claim:
            index, claimed = _claim(index, overlap)
            positive, negative = positive | claimed, negative & ~claimed
        rows.append((index, positive, negative))
    return Matches(*(torch.stack(column) for column in zip(*rows, strict=True)))


def _claim(index: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
    """Gives each object its best anchor; objects that overlap none write beyond the end."""
    objects, anchors = overlap.shape
    most, place = overlap.max(dim=1)
    place = torch.where(most > 0, place, anchors)
    longer = torch.cat([index, index.new_zeros(1)])
    longer = longer.scatter(0, place, torch.arange(objects, device=index.device))
    claimed = torch.zeros_like(longer, dtype=torch.bool).scatter(0, place, torch.ones_like(place, dtype=torch.bool))
    return longer[:anchors], claimed[:anchors]


def draw_sample(matches: Matches, count: int, fraction: float, training: bool) -> tuple[Tensor, Tensor]:
    """Draws anchors at random: at most `count * fraction` positive ones, and negative ones for the rest.

    Args:
        matches: Matches of the batch.
        count: Anchors per image.
        fraction: Largest fraction of positive ones.
        training: Otherwise the draw is the same every time, so that a validation loss can be compared.

    Returns:
        (B, A) bool of the positive ones and of all that were drawn.
    """
    shape, device = matches.positive.shape, matches.positive.device
    generator = None if training else torch.Generator(device).manual_seed(0)
    chance = torch.rand(shape, device=device, generator=generator)
    positive = _draw(chance, matches.positive, min(int(count * fraction), shape[1]), None)
    rest = count - positive.sum(dim=1, keepdim=True)
    negative = _draw(chance, matches.negative, min(count, shape[1]), rest)
    return positive, positive | negative


def _draw(chance: Tensor, among: Tensor, most: int, limit: Tensor | None) -> Tensor:
    """(B, A) bool: those of highest chance."""
    if most == 0:
        return torch.zeros_like(among)
    value, index = torch.where(among, chance, -1.0).topk(most, dim=1)
    taken = value >= 0
    if limit is not None:
        taken = taken & (torch.arange(most, device=among.device) < limit)
    return torch.zeros_like(among).scatter(1, index, taken)
