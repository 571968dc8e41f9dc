"""From a volume of costs to disparity: left-right check, interpolation, sub-pixel places and smoothing.

The steps of MC-CNN (Zbontar and LeCun, 2016), which are those of Mei et al. (2011).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.families.matching.cost_volume import shifted

_DIRECTIONS = [
    *((0, 1), (1, 2), (1, 1), (2, 1), (1, 0), (2, -1), (1, -1), (1, -2)),
    *((0, -1), (-1, -2), (-1, -1), (-2, -1), (-1, 0), (-2, 1), (-1, 1), (-1, 2)),
]
"""Steps down and to the right, sixteen around the circle."""


def of_right_image(cost: Tensor, worst: float) -> Tensor:
    """Costs of the right image, whose points the left one shows at x + d; `worst` where the left image ends."""
    width = cost.shape[-1]
    moved = [
        F.pad(cost[:, shift], (0, shift), value=worst)[..., shift : shift + width] for shift in range(cost.shape[1])
    ]
    return torch.stack(moved, dim=1)


def interpolated(left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Replaces disparities of the left image that those of the right one contradict.

    An occluded pixel, which fits no disparity, gets that of the next right one at its left; a mismatch the median of
    the next right ones in sixteen directions.

    Args:
        left: (B, h, w) whole disparities.
        right: (B, h, w) whole disparities of the right image.
        bins: Number of disparities.
    """
    volume = torch.cat(list(shifted(right[:, None].float() + 1, bins)), dim=1) - 1  # -1 beside the image
    step = torch.arange(bins, device=left.device).view(1, -1, 1, 1)
    fits = ((volume - step).abs() <= 1) & (volume >= 0)
    correct = fits.gather(1, left[:, None].long())[:, 0]
    mismatch = ~correct & fits.any(dim=1)
    out = torch.where(correct | mismatch, left, _from_left(left, correct))
    return _from_around(out, left, correct, mismatch)


def _from_left(values: Tensor, correct: Tensor) -> Tensor:
    """The next correct value at the left, at the right where there is none, the value itself in a row without any."""
    width = values.shape[-1]
    line = torch.arange(width, device=values.device).expand_as(values)
    before = torch.where(correct, line, -1).cummax(dim=-1).values
    after = torch.where(correct, line, width).flip(-1).cummin(dim=-1).values.flip(-1)
    place = torch.where(before >= 0, before, torch.where(after < width, after, line))
    return values.gather(-1, place)


def _from_around(out: Tensor, values: Tensor, correct: Tensor, wanted: Tensor) -> Tensor:
    batch, row, column = wanted.nonzero(as_tuple=True)
    if not len(batch):
        return out
    height, width = values.shape[-2:]
    found = torch.full((len(batch), len(_DIRECTIONS)), torch.nan, device=values.device)
    for number, (down, right) in enumerate(_DIRECTIONS):
        going = torch.arange(len(batch), device=values.device)
        for step in range(1, max(height, width)):
            y, x = row[going] + step * down, column[going] + step * right
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            going, y, x = going[inside], y[inside], x[inside]
            if not len(going):
                break
            hit = correct[batch[going], y, x]
            found[going[hit], number] = values[batch[going[hit]], y[hit], x[hit]].to(found)
            going = going[~hit]
    median = found.nanmedian(dim=1).values
    out = out.clone()
    out[batch, row, column] = torch.where(median.isnan(), values[batch, row, column].to(found), median).to(out)
    return out


def subpixel(disparity: Tensor, cost: Tensor) -> Tensor:
    """The lowest point of the parabola through the cost of a disparity and its two neighbors.

    Args:
        disparity: (B, h, w) whole disparities.
        cost: (B, D, h, w).
    """
    bins = cost.shape[1]
    place = disparity.long()[:, None]
    low, here, high = (cost.gather(1, (place + step).clamp(0, bins - 1))[:, 0] for step in (-1, 0, 1))
    bend = high - 2 * here + low
    inner = (place[:, 0] > 0) & (place[:, 0] < bins - 1) & (bend > 1e-6)
    move = torch.where(inner, (low - high) / (2 * bend.clamp(min=1e-6)), 0.0)
    return disparity.to(cost.dtype) + move.clamp(-1, 1)


def median_filter(values: Tensor, side: int = 5) -> Tensor:
    """The median of the square around every pixel, (B, h, w); the border is repeated."""
    half = side // 2
    padded = F.pad(values[:, None], (half,) * 4, mode="replicate")[:, 0]
    height, width = values.shape[-2:]
    around = [padded[..., y : y + height, x : x + width] for y in range(side) for x in range(side)]
    return torch.stack(around, dim=-1).median(dim=-1).values


def bilateral_filter(values: Tensor, sigma: float, threshold: float) -> Tensor:
    """Means of the pixels around that differ by less than a threshold, weighted by a Gaussian of their distance.

    Args:
        values: (B, h, w) disparity.
        sigma: Deviation of the Gaussian in pixels; it is cut off at two deviations.
        threshold: Pixels of disparity.
    """
    half = math.ceil(2 * sigma)
    height, width = values.shape[-2:]
    padded = F.pad(values, (half,) * 4, value=torch.inf)  # nothing is that near
    total, weight = torch.zeros_like(values), torch.zeros_like(values)
    for y in range(2 * half + 1):
        for x in range(2 * half + 1):
            away = math.hypot(y - half, x - half)
            if away > half:
                continue
            other = padded[..., y : y + height, x : x + width]
            part = ((other - values).abs() < threshold) * math.exp(-(away**2) / (2 * sigma**2))
            total += torch.where(part > 0, other, 0.0) * part
            weight += part
    return total / weight
