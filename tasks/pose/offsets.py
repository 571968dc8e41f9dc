"""Discs and offsets (UDP; Huang et al., 2020): which cells are near a keypoint, and from each of them the way to it.

The paper's other half, sizes measured between the middles of pixels so that a flip, a crop and a map agree, is how
`visionkit.geometry` and `draw_gaussians` measure anyway.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 1.75
"""Of a disc, in deviations of the Gaussian in whose place it stands: the paper's 3.5 cells for a deviation of 2."""

_REACH = 1  # the cells about the peak whose offsets are averaged, to each side


def draw_offsets(places: Tensor, size: tuple[int, int], stride: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Draws a disc about each position and the way to it from every cell.

    Args:
        places: (..., 2) x, y in input pixels.
        size: Height and width of the maps in cells.
        stride: Input pixels a cell.
        sigma: A disc's radius is `RADIUS` times this, in cells.

    Returns:
        (..., h, w) 1 inside the disc and 0 outside, and (..., 2, h, w) the offset in x and y in radii, both float32.
    """
    radius = RADIUS * sigma
    center = places.float() / stride - 0.5
    x = center[..., 0:1] - torch.arange(size[1], device=places.device, dtype=torch.float32)
    y = center[..., 1:2] - torch.arange(size[0], device=places.device, dtype=torch.float32)
    x, y = torch.broadcast_tensors(x[..., None, :], y[..., :, None])
    return (x * x + y * y <= radius**2).float(), torch.stack([x, y], dim=-3) / radius


def read_offsets(maps: Tensor, offsets: Tensor, stride: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Finds the middle of each disc, and reads from the cells there where the keypoint is.

    Args:
        maps: (..., h, w) float.
        offsets: (..., 2, h, w) float, in radii.
        stride: Input pixels a cell.
        sigma: Standard deviation, as they were drawn.

    Returns:
        (..., 2) x, y in input pixels and (...) the height of the map there, both float32.
    """
    rows, columns = maps.shape[-2:]
    lead = maps.shape[:-2]
    flat = maps.float().reshape(-1, rows, columns)
    ways = offsets.float().reshape(-1, 2, rows, columns) * (RADIUS * sigma)
    # A disc is flat: only with its surroundings taken in has it one highest place.
    cell = _smooth(flat, sigma).flatten(1).argmax(dim=1)
    index = torch.arange(len(flat), device=maps.device)
    height = flat.flatten(1)[index, cell]
    steps = torch.arange(-_REACH, _REACH + 1, device=maps.device)
    y = (cell // columns)[:, None] + steps
    x = (cell % columns)[:, None] + steps
    inside = ((y >= 0) & (y < rows))[:, :, None] & ((x >= 0) & (x < columns))[:, None, :]
    y, x = y.clamp(0, rows - 1)[:, :, None], x.clamp(0, columns - 1)[:, None, :]
    weight = flat[index[:, None, None], y, x].clamp(min=0) * inside
    total = weight.sum(dim=(1, 2))
    found = []
    for axis, (at, alone) in enumerate(((x, cell % columns), (y, cell // columns))):
        votes = ways[index[:, None, None], axis, y, x] + at
        mean = (votes * weight).sum(dim=(1, 2)) / total.clamp(min=1e-6)
        found.append(torch.where(total > 1e-6, mean, alone.float()))
    return (torch.stack(found, dim=-1) + 0.5).reshape(*lead, 2) * stride, height.reshape(lead)


def _smooth(maps: Tensor, sigma: float) -> Tensor:
    """(N, h, w) blurred by a Gaussian; what is outside counts as 0."""
    reach = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=maps.device, dtype=torch.float32) / sigma) ** 2)
    line = line / line.sum()
    out = F.conv2d(maps[:, None], line.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(out, line.view(1, 1, 1, -1), padding=(0, reach))[:, 0]
