"""The scale, or scale and shift, that brings a prediction to the truth, image by image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Alignment = Literal["none", "median", "least_squares"]


def least_squares(values: Tensor, goal: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift with the smallest squared error over the known pixels.

    Args:
        values: (B, h, w) float32 or float64.
        goal: (B, h, w).
        known: (B, h, w) bool.

    Returns:
        (B,) scale and (B,) shift; an image of one value, or with nothing known, gets the scale 0.
    """
    weight = known.flatten(1).to(values.dtype)
    x, y = values.flatten(1), torch.where(known, goal, 0.0).flatten(1)
    count = weight.sum(dim=1).clamp(min=1)
    # About the means: the normal equations themselves cancel badly in float32.
    mean_x, mean_y = (x * weight).sum(dim=1) / count, (y * weight).sum(dim=1) / count
    dx, dy = (x - mean_x[:, None]) * weight, (y - mean_y[:, None]) * weight
    spread = dx.square().sum(dim=1)
    scale = (dx * dy).sum(dim=1) / spread.clamp(min=1e-12)
    return scale, mean_y - scale * mean_x


def median_scale(depth: Tensor, truth: Tensor) -> Tensor:
    """The factor between the medians of two lists of depths, each (n,), n at least 1; () of their type."""
    return _median(truth) / _median(depth).clamp(min=1e-12)


def _median(values: Tensor) -> Tensor:
    """As numpy's: the mean of the two in the middle of an even number. torch takes the lower one."""
    ordered = values.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
