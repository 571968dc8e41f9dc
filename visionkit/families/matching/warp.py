"""Sampling one image at the places to which the pixels of another move, and what that shows of a flow."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(values: Tensor, x: Tensor, y: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """Bilinear values at places counted in pixels.

    Args:
        values: (B, C, h, w).
        x: (B, p, q) columns, 0 at the center of the first pixel.
        y: (B, p, q) rows in the same way.
        padding: What lies outside: `zeros`, or the value at the `border`.

    Returns:
        (B, C, p, q).
    """
    height, width = values.shape[-2:]
    # Between the outer borders, not between centers, so a map of a single pixel can be sampled too.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    # Places in 16 bit would be off by parts of a pixel.
    return F.grid_sample(values.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=False)


def pixel_grid(like: Tensor) -> Tensor:
    """(2, h, w) column and row of every pixel of a map (..., h, w), on its device."""
    height, width = like.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device), torch.arange(width, device=like.device), indexing="ij"
    )
    return torch.stack([x, y]).to(like.dtype)


def warp(values: Tensor, flow: Tensor) -> Tensor:
    """Brings the second image to the first: what it shows where each pixel of the first one moves.

    Args:
        values: (B, C, h, w) of the second image.
        flow: (B, 2, h, w) motion from the first image to the second, in pixels to the right and downwards.

    Returns:
        (B, C, h, w); 0 for what moves out of the image.
    """
    x, y = (pixel_grid(flow) + flow).unbind(dim=1)
    return sample(values, x, y)


def consistent(forward: Tensor, backward: Tensor) -> Tensor:
    """Where the flow back undoes the flow forth (Sundaram et al., 2010); elsewhere it is occluded, or wrong.

    Args:
        forward: (B, 2, h, w) flow from the first image to the second.
        backward: (B, 2, h, w) flow from the second image to the first.

    Returns:
        (B, h, w) bool: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5 for the flow back b where f ends, inside the image.
    """
    height, width = forward.shape[-2:]
    back = warp(backward, forward)
    lengths = forward.square().sum(dim=1) + back.square().sum(dim=1)
    x, y = (pixel_grid(forward) + forward).unbind(dim=1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside & ((forward + back).square().sum(dim=1) < 0.01 * lengths + 0.5)
