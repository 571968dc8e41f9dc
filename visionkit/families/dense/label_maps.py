"""From class scores on a coarse grid to the label of every pixel, without enlarging the scores.

Bilinear interpolation of scores and then the highest is what everybody means by a label map, and what takes long: all
classes at all pixels. But where the same class is highest at the four corners of a cell, it is highest everywhere
between them. So only cells on borders between classes are interpolated; the result is the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionkit.geometry import Geometry

_CHUNK = 1 << 22
"""Scores that are interpolated at a time: 16 MiB."""


class Axis(NamedTuple):
    """Where the pixels of one side lie on the grid of scores.

    Attributes:
        first: (n,) int64, the cell before each pixel.
        fraction: (n,) float32 in [0, 1), how far it is on the way to the next.
        inside: (n,) bool, the network saw it.
    """

    first: Tensor
    fraction: Tensor
    inside: Tensor


def axis(positions: Tensor, cells: int, extent: int) -> Axis:
    """Places on one side.

    Args:
        positions: (n,) in continuous pixels of what the network saw: 0 at its border, 0.5 at the first center.
        cells: Number of cells of the grid along this side.
        extent: Pixels that the cells cover.
    """
    place = (positions.double() * (cells / extent) - 0.5).clamp(0, cells - 1)
    first = place.floor().long().clamp_(max=max(cells - 2, 0))
    return Axis(first, (place - first).float(), (positions >= 0) & (positions <= extent))


def labels_in_input(scores: Tensor, size: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """Labels at input size, as metrics need them.

    Args:
        scores: (B, K, h, w) float.
        size: Height and width requested, in input pixels.
        canvas: Height and width in input pixels that the scores cover, at least `size`.

    Returns:
        (B, height, width) uint8, or int64 with more than 255 classes.
    """
    rows = axis(torch.arange(size[0]) + 0.5, scores.shape[-2], canvas[0])
    columns = axis(torch.arange(size[1]) + 0.5, scores.shape[-1], canvas[1])
    return torch.stack([highest(each, rows, columns) for each in scores])


def labels_in_file(scores: Tensor, geometry: Geometry, canvas: tuple[int, int]) -> np.ndarray:
    """Labels of every pixel of the file.

    Args:
        scores: (K, h, w) float, any device.
        geometry: Geometry of the image.
        canvas: Height and width in input pixels that the scores cover.

    Returns:
        (h, w) of the file's size, uint8, or uint16 with more than 255 classes; the type's largest value where the
        network did not see the file.
    """
    kind = np.uint8 if scores.shape[0] <= 255 else np.uint16
    unknown = int(np.iinfo(kind).max)
    height, width = geometry.source
    if geometry.rotation:
        from torch.nn.functional import interpolate

        whole = interpolate(scores[None].float(), size=canvas, mode="bilinear", align_corners=False)[0]
        moved = geometry.invert_map(whole, fill=float("-inf"))
        found = moved.argmax(dim=0)
        found[torch.isinf(moved[0])] = unknown
        return found.cpu().numpy().astype(kind)
    matrix = geometry.matrix
    y = torch.arange(height, dtype=torch.float64) + 0.5
    x = torch.arange(width, dtype=torch.float64) + 0.5
    down, across = y * matrix[1, 1] + matrix[1, 2], x * matrix[0, 0] + matrix[0, 2]
    rows = axis(down, scores.shape[-2], canvas[0])._replace(inside=_within(down, geometry.size[0]))
    columns = axis(across, scores.shape[-1], canvas[1])._replace(inside=_within(across, geometry.size[1]))
    labels = highest(scores, rows, columns).cpu().numpy().astype(kind, copy=False)
    if not (rows.inside.all() and columns.inside.all()):
        labels[~rows.inside.numpy()] = unknown
        labels[:, ~columns.inside.numpy()] = unknown
    return labels


def _within(positions: Tensor, extent: int) -> Tensor:
    return (positions >= 0) & (positions <= extent)


@torch.no_grad()
def highest(scores: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """The class of the highest interpolated score at each position of a grid of places.

    Args:
        scores: (K, h, w) float.
        rows: Rows of the places, ascending or descending.
        columns: Columns of the places, ascending or descending.

    Returns:
        (rows, columns) uint8, or int64 with more than 255 classes, on the device of the scores.
    """
    scores = scores.float() if scores.dtype == torch.float16 else scores
    device = scores.device
    coarse = best(scores)
    y, x = rows.first.to(device), columns.first.to(device)
    if not rows.fraction.any() and not columns.fraction.any():
        return coarse.index_select(0, y).index_select(1, x)  # every position is a cell
    below, right = _next(coarse, 0), _next(coarse, 1)
    mixed = (coarse != below) | (coarse != right) | (coarse != _next(below, 1))
    labels = coarse.index_select(0, y).index_select(1, x)
    cells = mixed.nonzero()
    if len(cells):
        _settle(labels, scores, cells, rows, columns)
    return labels


def best(scores: Tensor) -> Tensor:
    """The class of the highest score of each cell: (K, h, w) to (h, w) uint8, or int64 with more than 255 classes."""
    if scores.shape[0] > 255:
        return scores.argmax(dim=0)
    if scores.device.type != "cpu" or scores.stride(0) == 1:
        return scores.argmax(dim=0).to(torch.uint8)
    # torch's argmax over a first axis is not vectorized; comparing class by class is.
    top, label = scores[0].clone(), torch.zeros(scores.shape[1:], dtype=torch.uint8)
    for number in range(1, scores.shape[0]):
        label.masked_fill_(scores[number] > top, number)
        torch.maximum(top, scores[number], out=top)
    return label


def _next(values: Tensor, dim: int) -> Tensor:
    """The value of the following cell; the last one is its own neighbor."""
    moved = values.roll(-1, dim)
    moved.select(dim, -1).copy_(values.select(dim, -1))
    return moved


def _settle(labels: Tensor, scores: Tensor, cells: Tensor, rows: Axis, columns: Axis) -> None:
    """Interpolates every class within the cells whose corners disagree, and writes the highest into `labels`."""
    device = scores.device
    classes, height, width = scores.shape
    down, across = _Members.of(rows, height, device), _Members.of(columns, width, device)
    flat = scores.reshape(classes, -1)
    cells = cells[(down.number[cells[:, 0]] > 0) & (across.number[cells[:, 1]] > 0)]
    if not len(cells):  # a split of nothing is one empty part
        return
    size = max(1, _CHUNK // 16 // (down.most * across.most))
    for part in cells.split(size):
        index = part[:, 0] * width + part[:, 1]
        right = (part[:, 1] + 1 < width).long()
        below = index + (part[:, 0] + 1 < height).long() * width
        corners = torch.stack([flat[:, each] for each in (index, index + right, below, below + right)]).float()
        # A class whose highest corner lies below some other's lowest one cannot win in that cell; two or three can.
        most, least = corners.amax(dim=0), corners.amin(dim=0).amax(dim=0)
        able = most >= least
        count, order = able.sum(dim=0).sort(descending=True)
        able, most, corners, part = able[:, order], most[:, order], corners[:, :, order], part[order]
        rivals = torch.where(able, most, -torch.inf).topk(int(count[0]), dim=0).indices
        y, fraction_y = down.members(part[:, 0])
        x, fraction_x = across.members(part[:, 1])
        top = corners.new_full((len(part), down.most, across.most), -torch.inf)
        label = torch.zeros(top.shape, dtype=labels.dtype, device=device)
        for rank, number in enumerate(rivals):
            still = int((count > rank).sum())  # cells are sorted by their number of rivals
            chosen = number[:still]
            a, b, c, d = corners[:, :, :still].gather(1, chosen.expand(4, 1, still))[:, 0, :, None]
            upper, lower = torch.lerp(a, b, fraction_x[:still]), torch.lerp(c, d, fraction_x[:still])
            value = torch.lerp(upper[:, None, :], lower[:, None, :], fraction_y[:still, :, None])
            higher = value > top[:still]
            label[:still] = torch.where(higher, chosen.to(labels.dtype)[:, None, None], label[:still])
            torch.maximum(top[:still], value, out=top[:still])
        places = y[:, :, None] * labels.shape[1] + x[:, None, :]
        labels.view(-1)[places.view(-1)] = label.view(-1)


class _Members(NamedTuple):
    """Which places of one side lie in which cell; places ascend or descend, so those of a cell are neighbors."""

    start: Tensor
    number: Tensor
    fraction: Tensor
    most: int

    @classmethod
    def of(cls, side: Axis, cells: int, device: torch.device) -> _Members:
        count = torch.bincount(side.first, minlength=cells)
        start = torch.full((cells,), len(side.first), dtype=torch.long)
        start.scatter_reduce_(0, side.first, torch.arange(len(side.first)), "amin")
        return cls(start.to(device), count.to(device), side.fraction.to(device), max(1, int(count.max())))

    def members(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(n, most) places in each of n cells that have any, and how far each is on the way to the next cell.

        The last place stands there several times where a cell has fewer.
        """
        step = torch.arange(self.most, device=cells.device)
        place = self.start[cells][:, None] + torch.minimum(step, self.number[cells][:, None] - 1)
        return place, self.fraction[place]
