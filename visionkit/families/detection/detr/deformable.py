"""Deformable attention: every query samples the maps at a few positions of its own, by one of two equal paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]
"""Height and width of each map, finest first."""


def sample_by_grid(value: Tensor, shapes: Shapes, points: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples by `grid_sample`: the faster path, used in training and by torch.

    Args:
        value: (B, A, heads, D), positions of all maps one after the other, row by row.
        shapes: Shapes of the maps, A positions together.
        points: Number of samples on each map, P together.
        locations: (B, Q, heads, P, 2) x and y as fractions of the image; outside of it the value is 0.
        weights: (B, Q, heads, P).

    Returns:
        (B, Q, heads * D) float32.
    """
    batch, _, heads, width = value.shape
    queries = locations.shape[1]
    levels = value.float().permute(0, 2, 3, 1).split([height * wide for height, wide in shapes], dim=-1)
    grids = (2 * locations.float() - 1).permute(0, 2, 1, 3, 4).flatten(0, 1).split(list(points), dim=-2)
    sampled = [
        F.grid_sample(level.reshape(batch * heads, width, *shape), grid, align_corners=False)
        for level, shape, grid in zip(levels, shapes, grids, strict=True)
    ]
    factors = weights.float().permute(0, 2, 1, 3).reshape(batch * heads, 1, queries, -1)
    summed = (torch.cat(sampled, dim=-1) * factors).sum(dim=-1)
    return summed.reshape(batch, heads * width, queries).transpose(1, 2)


def sample_by_gather(
    value: Tensor, shapes: Shapes, points: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    """The same as `sample_by_grid` by gathers, for graphs: some runtimes sample wrongly in a fused GridSample."""
    batch, positions, heads, width = value.shape
    queries = locations.shape[1]
    index, factor, start = [], [], 0
    for (height, wide), place in zip(shapes, locations.float().split(list(points), dim=-2), strict=True):
        columns = _neighbors(place[..., 0] * wide - 0.5, wide)
        for (row, down), (column, across) in itertools.product(
            _neighbors(place[..., 1] * height - 0.5, height), columns
        ):
            factor.append(across * down)
            index.append((row * wide + column).to(torch.int64) + start)
        start += height * wide
    # Corners of one map follow each other, so weights are repeated in the same order.
    parts = weights.float().split(list(points), dim=-1)
    repeated = torch.cat([part for part in parts for _ in range(4)], dim=-1)
    factors = torch.cat(factor, dim=-1) * repeated
    rows = torch.cat(index, dim=-1).permute(0, 2, 1, 3).reshape(batch * heads, -1)
    rows = rows + torch.arange(batch * heads, device=value.device)[:, None] * positions
    table = value.float().permute(0, 2, 1, 3).reshape(batch * heads * positions, width)
    taken = table.index_select(0, rows.flatten()).reshape(batch, heads, queries, 4 * sum(points), width)
    summed = (taken * factors.permute(0, 2, 1, 3)[..., None]).sum(dim=3)
    return summed.permute(0, 2, 1, 3).reshape(batch, queries, heads * width)


def _neighbors(place: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """The two pixels of a row or column around each place, with their weights; 0 for those outside of it."""
    first = place.floor()
    part = place - first
    pixels = ((first, 1 - part), (first + 1, part))
    return [(each.clamp(0, count - 1), weight * ((each >= 0) & (each < count))) for each, weight in pixels]


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Zhu et al., 2021, arXiv 2010.04159) with points per map as in RT-DETRv2.

    Args:
        width: Channels of queries and maps.
        heads: Number of heads.
        points: Number of samples of a head on each map.
        project: Project values and sums, as RT-DETR does; D-FINE samples the maps as they are.
    """

    spread = 0.5
    """A sample's offset of 1 is this fraction of the sides of its query's box."""

    def __init__(self, width: int, heads: int, points: Sequence[int], project: bool) -> None:
        super().__init__()
        self.heads, self.points = heads, tuple(points)
        total = heads * sum(points)
        self.offsets, self.weights = nn.Linear(width, 2 * total), nn.Linear(width, total)
        self.value = nn.Linear(width, width) if project else nn.Identity()
        self.output = nn.Linear(width, width) if project else nn.Identity()
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        with torch.no_grad():
            self.offsets.bias.copy_(_directions(heads, points))
        for projection in (self.value, self.output):
            if isinstance(projection, nn.Linear):
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)

    def forward(self, queries: Tensor, boxes: Tensor, memory: Tensor, shapes: Shapes) -> Tensor:
        """Samples around each query's box.

        Args:
            queries: (B, Q, width).
            boxes: (B, Q, 4) center and sides as fractions of the image.
            memory: (B, A, width), positions of all maps.
            shapes: Shapes of the maps.

        Returns:
            (B, Q, width).
        """
        batch, count = queries.shape[:2]
        total = sum(self.points)
        value = self.value(memory).reshape(batch, memory.shape[1], self.heads, -1)
        offsets = self.offsets(queries).float().reshape(batch, count, self.heads, total, 2)
        share = torch.cat([offsets.new_full((n, 1), 1 / n) for n in self.points])
        offsets = offsets * share * boxes[:, :, None, None, 2:] * self.spread
        weights = self.weights(queries).float().reshape(batch, count, self.heads, total).softmax(dim=-1)
        sample = sample_by_gather if torch.compiler.is_exporting() else sample_by_grid
        summed = sample(value, shapes, self.points, boxes[:, :, None, None, :2] + offsets, weights)
        return cast(Tensor, self.output(summed.to(queries.dtype)))


def _directions(heads: int, points: Sequence[int]) -> Tensor:
    """(heads * P * 2): the first offsets; each head samples in a direction of its own, farther with each point."""
    angles = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    ways = torch.stack([angles.cos(), angles.sin()], dim=-1)
    ways = ways / ways.abs().amax(dim=-1, keepdim=True)
    steps = torch.cat([torch.arange(1, count + 1, dtype=torch.float32) for count in points])
    return (ways[:, None] * steps[:, None]).flatten()
