"""RoIAlign on the CPU as a sum of weighted rows, several times as fast as the loop of torchvision's operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLES = 2
"""Along each side of a cell, as torchvision's detectors have it."""


def align_regions(maps: Sequence[Tensor], strides: Sequence[int], level: Tensor, rois: Tensor, side: int) -> Tensor:
    """`torchvision.ops.roi_align` with two samples per side, not aligned, each box from its own level, to rounding.

    Every cell is the sum of sixteen rows of a map (four samples between four places each), which is what
    `embedding_bag` computes, forwards and backwards, for all levels at once.

    Args:
        maps: (B, C, h, w) of each level; fastest where channels come last in memory.
        strides: Input pixels from place to place of each level.
        level: (R,) int64, the level of each box.
        rois: (R, 5), the number of the image, and the box in input pixels.
        side: Cells a side.

    Returns:
        (R, C, side, side), channels last in memory.
    """
    channels = maps[0].shape[1]
    rows = torch.cat([map_.permute(0, 2, 3, 1).reshape(-1, channels) for map_ in maps]).float()
    shapes = torch.tensor([(*map_.shape[-2:], map_.shape[0]) for map_ in maps])
    height, width = shapes[level, 0], shapes[level, 1]
    counts = shapes.prod(dim=1)
    first = (counts.cumsum(0) - counts)[level] + rois[:, 0].detach().long() * height * width
    boxes = rois[:, 1:].detach() / torch.tensor(strides, dtype=torch.float32)[level, None]
    x, across = _samples(boxes[:, 0], boxes[:, 2] - boxes[:, 0], side, width)
    y, down = _samples(boxes[:, 1], boxes[:, 3] - boxes[:, 1], side, height)
    lines = first[:, None, None] + y * width[:, None, None]
    places = lines[:, :, None, :, None] + x[:, None, :, None, :]
    weights = down[:, :, None, :, None] * across[:, None, :, None, :]
    flat = (places.reshape(-1, 4 * SAMPLES**2), weights.reshape(-1, 4 * SAMPLES**2))
    with torch.autocast("cpu", enabled=False):
        cells = F.embedding_bag(flat[0], rows, mode="sum", per_sample_weights=flat[1])
    return cells.view(len(rois), side, side, channels).permute(0, 3, 1, 2).to(maps[0].dtype)


def _samples(start: Tensor, length: Tensor, side: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """Along one side: (R, side, 2 * SAMPLES) places and their weights, samples that lie outside weighing nothing."""
    step = length.clamp(min=1.0) / side / SAMPLES
    at = start[:, None] + step[:, None] * (torch.arange(side * SAMPLES) + 0.5)
    last = (size - 1)[:, None].float()
    outside = (at < -1) | (at > last + 1)
    at = at.clamp(min=0)
    low = torch.minimum(at.floor(), last)
    part = torch.where(low >= last, 0.0, at - low)
    places = torch.stack([low, torch.minimum(low + 1, last)], dim=-1).long()
    weights = torch.stack([1 - part, part], dim=-1).masked_fill(outside[..., None], 0.0) / SAMPLES
    return places.view(-1, side, 2 * SAMPLES), weights.view(-1, side, 2 * SAMPLES)
