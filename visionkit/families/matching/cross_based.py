"""Cross-based cost aggregation (Zhang et al., 2009): means over regions of similar gray values in both images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Arms(NamedTuple):
    """How far similar pixels reach from each pixel, (B, h, w) int64 each.

    Attributes:
        left: Pixels to the left.
        right: Pixels to the right.
        up: Pixels upwards.
        down: Pixels downwards.
    """

    left: Tensor
    right: Tensor
    up: Tensor
    down: Tensor


def arms_of(image: Tensor, length: int, threshold: float) -> Arms:
    """The arms of the cross of every pixel: an arm ends before the first pixel that differs.

    Args:
        image: (B, h, w) float gray.
        length: Arms are shorter than this many pixels.
        threshold: Difference of gray values from which on a pixel belongs to another region.
    """
    return Arms(*(_arm(image, length, threshold, axis, step) for axis in (-1, -2) for step in (-1, 1)))


def _arm(image: Tensor, length: int, threshold: float, axis: int, step: int) -> Tensor:
    reached = torch.zeros(image.shape, dtype=torch.long, device=image.device)
    going = torch.ones_like(image, dtype=torch.bool)
    side = image.shape[axis]
    for away in range(1, min(length, side)):
        near, far = image.narrow(axis, away, side - away), image.narrow(axis, 0, side - away)
        similar = (near - far).abs() < threshold
        pad = (away, 0) if step < 0 else (0, away)
        going = going & F.pad(similar, pad if axis == -1 else (0, 0, *pad))
        reached += going
    return reached


def aggregate(cost: Tensor, left: Arms, right: Arms, iterations: int) -> Tensor:
    """Means of costs over the regions that the crosses of both images share, disparity by disparity.

    Args:
        cost: (B, D, h, w) float; not changed.
        left: Arms of the image that the costs belong to.
        right: Arms of the other one, which shows a point at x - d.
        iterations: Number of times; 0 gives the costs as they are.
    """
    if not iterations:
        return cost
    out = torch.empty_like(cost)
    width = cost.shape[-1]
    for shift in range(cost.shape[1]):
        both = [
            torch.minimum(ours, F.pad(theirs, (shift, 0))[..., :width])
            for ours, theirs in zip(left, right, strict=True)
        ]
        values = cost[:, shift]
        for _ in range(iterations):
            values = _mean(values, Arms(*both))
        out[:, shift] = values
    return out


def _mean(values: Tensor, arms: Arms) -> Tensor:
    rows = _sum(values, arms.left, arms.right, -1)
    counts = (arms.left + arms.right + 1).to(values.dtype)
    total, number = (_sum(each, arms.up, arms.down, -2) for each in (rows, counts))
    return total / number


def _sum(values: Tensor, before: Tensor, after: Tensor, axis: int) -> Tensor:
    """Sums from `before` pixels before each pixel to `after` pixels behind it."""
    running = F.pad(values.double().cumsum(dim=axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
    side = values.shape[axis]
    place = torch.arange(side, device=values.device)
    place = place if axis == -1 else place[:, None]
    ends = running.gather(axis, place + after + 1) - running.gather(axis, place - before)
    return ends.to(values.dtype)
