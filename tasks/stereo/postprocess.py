"""Disparity in input pixels to disparity maps in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import DisparityMap


def to_predictions(values: Tensor, geometry: Sequence[Geometry]) -> list[DisparityMap]:
    """One disparity map per pair, of exactly the size of its files; 0 where the network never saw the file.

    Args:
        values: (B, h, w) float32 in pixels of the input.
        geometry: Geometry of each pair.
    """
    out = []
    for each, way in zip(values, geometry, strict=True):
        # In a whole map 0 would be read as not known; nothing is infinitely far from the cameras.
        restored = way.invert_map(each[None].float().clamp(min=1e-3), fill=0.0, mode="bilinear")[0] / way.scale[0]
        out.append(DisparityMap(restored.cpu().numpy()))
    return out


def file_scale(geometry: Sequence[Geometry], like: Tensor) -> Tensor:
    """(B, 1, 1), pixels of the file that one pixel of the input stands for, horizontally."""
    scales = [1 / each.scale[0] for each in geometry]
    return torch.tensor(scales, dtype=like.dtype, device=like.device).view(-1, 1, 1)
