"""A smooth guess at what holes hide, made of the known pixels around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_RINGS = 8
"""How far, in cells of the coarsest scale, known colors reach into a hole."""


def fill_holes(image: Tensor, mask: Tensor, levels: int = 3) -> Tensor:
    """Fills holes with weighted means of the known pixels, from coarse to fine (pull-push; Gortler et al., 1996).

    At the coarsest scale, cells without any known pixel take the mean of the cells around them, ring by ring. Known
    pixels stay as they are. A hole that is farther than eight coarse cells from any known pixel is gray.

    Args:
        image: (B, C, h, w) float, about [0, 1]; what is in holes does not matter.
        mask: (B, 1, h, w) float, 1 where pixels are missing.
        levels: Number of halvings; both sides are multiples of 2 to this power.

    Returns:
        (B, C, h, w) float.
    """
    weight = 1 - mask
    color = image * weight
    finer: list[tuple[Tensor, Tensor]] = []
    for _ in range(levels):
        finer.append((color, weight))
        color, weight = F.avg_pool2d(color, 2), F.avg_pool2d(weight, 2)
    for _ in range(_RINGS):
        near = F.avg_pool2d(weight, 3, 1, 1), F.avg_pool2d(color, 3, 1, 1)
        is_empty = (weight <= 0).to(weight.dtype)
        weight, color = weight + is_empty * near[0], color + is_empty * near[1]
    filled = torch.where(weight > 0, color / weight.clamp(min=1e-6), torch.full_like(color, 0.5))
    for color, weight in reversed(finer):
        filled = color + (1 - weight) * F.interpolate(filled, scale_factor=2.0, mode="bilinear")
    return filled
