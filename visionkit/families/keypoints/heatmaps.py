"""Between places and heatmaps: Gaussians drawn on the device, and peaks read back below a cell's width.

Cell j of a map of stride s covers the input pixels from s * j to s * (j + 1), so its center is at s * (j + 0.5). A
Gaussian stands exactly on its keypoint, not on the nearest cell: there is nothing to correct when it is read back.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Encoding = Literal["gaussian", "udp"]
"""Target of the heatmaps: `gaussian` is one Gaussian per keypoint.

`udp` a disc and, from each cell, the way to the keypoint (Huang
et al., 2020; see `offsets`)."""

Decoding = Literal["dark", "quarter", "argmax"]
"""How a Gaussian's peak is read: `dark` fits a Gaussian to the cells around it (the log of the map is expanded as Zhang
et al., 2020, do; unbiased); `quarter` moves a quarter of a cell to the higher neighbor (Newell et al., 2016);
`argmax` takes the cell as it is."""

_LEAST = 1e-6
_FLOOR = 1e-3


def draw_gaussians(places: Tensor, size: tuple[int, int], stride: float, sigma: float) -> Tensor:
    """Draws a Gaussian of height 1 at each position.

    Args:
        places: (..., 2) x, y in input pixels.
        size: Height and width of the maps in cells.
        stride: Input pixels a cell.
        sigma: Standard deviation of the Gaussians, in cells.

    Returns:
        (..., h, w) float32.
    """
    center = places.float() / stride - 0.5
    x = torch.arange(size[1], device=places.device, dtype=torch.float32) - center[..., 0:1]
    y = torch.arange(size[0], device=places.device, dtype=torch.float32) - center[..., 1:2]
    factor = -0.5 / sigma**2
    return (factor * y * y).exp()[..., :, None] * (factor * x * x).exp()[..., None, :]


def read_peaks(maps: Tensor, stride: float, decoding: Decoding = "dark") -> tuple[Tensor, Tensor]:
    """Finds the highest place of each map.

    Args:
        maps: (..., h, w) float.
        stride: Input pixels a cell.
        decoding: See `Decoding`.

    Returns:
        (..., 2) x, y in input pixels and (...) the height of the peak, both float32.
    """
    flat = maps.float().flatten(-2)
    height, cell = flat.max(dim=-1)
    rows, columns = maps.shape[-2:]
    y, x = cell // columns, cell % columns
    lead = cell.shape
    each = maps.reshape(-1, rows, columns)
    moved = refine(each, torch.arange(len(each), device=maps.device), x.flatten(), y.flatten(), decoding).view(*lead, 2)
    return (torch.stack([x, y], dim=-1) + 0.5 + moved) * stride, height


def refine(maps: Tensor, of: Tensor, x: Tensor, y: Tensor, decoding: Decoding) -> Tensor:
    """How far each peak lies from the center of its cell.

    Args:
        maps: (M, h, w) float.
        of: (N,) number of the map that a peak lies in.
        x: (N,) column of the highest cell.
        y: (N,) row.
        decoding: See `Decoding`.

    Returns:
        (N, 2) float32 in cells.
    """
    if decoding == "argmax" or min(maps.shape[-2:]) < 3:
        return torch.zeros(len(x), 2, device=maps.device)
    rows, columns = maps.shape[-2:]
    reach = 2 if min(rows, columns) >= 5 else 1
    # At a border the window moves inwards: what is outside is not known, and a Gaussian is one everywhere.
    left, top = x.clamp(reach, columns - 1 - reach) - reach, y.clamp(reach, rows - 1 - reach) - reach
    steps = torch.arange(2 * reach + 1, device=maps.device)
    tile = maps[of[:, None, None], (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]].float()
    inside_x, inside_y = x - left, y - top
    if decoding == "quarter":
        return _quarter(tile, inside_x, inside_y)
    return _gaussian_fit(tile, inside_x, inside_y)


def _quarter(tile: Tensor, x: Tensor, y: Tensor) -> Tensor:
    side = tile.shape[-1]
    row = tile[torch.arange(len(x), device=x.device), y]
    column = tile[torch.arange(len(x), device=x.device), :, x]
    moves = []
    for line, at in ((row, x), (column, y)):
        before = line.gather(1, (at - 1).clamp(min=0)[:, None])[:, 0]
        after = line.gather(1, (at + 1).clamp(max=side - 1)[:, None])[:, 0]
        inner = (at > 0) & (at < side - 1)
        moves.append(torch.where(inner, 0.25 * torch.sign(after - before), torch.zeros_like(after)))
    return torch.stack(moves, dim=1)


def _gaussian_fit(tile: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The center of the round Gaussian that fits best: log h = a + b x + c y + d (x^2 + y^2), weighted by h^2.

    The weight makes the error of the log that of the map itself. On a drawn Gaussian the fit is exact, wherever its
    center lies; on a learned map it averages over the window instead of trusting differences of three cells.
    """
    count, side, _ = tile.shape
    peak = tile.flatten(1).amax(dim=1).clamp(min=_LEAST)
    level = (tile / peak[:, None, None]).clamp(min=_FLOOR)
    at = torch.arange(side, device=tile.device, dtype=torch.float32)
    dx = (at[None, None, :] - x[:, None, None]).expand(count, side, side).flatten(1)
    dy = (at[None, :, None] - y[:, None, None]).expand(count, side, side).flatten(1)
    terms = torch.stack([torch.ones_like(dx), dx, dy, dx * dx + dy * dy], dim=-1).double()
    # What lies at the floor was cut off there and does not describe the Gaussian.
    weight = torch.where(level > _FLOOR, level**2, torch.zeros_like(level)).flatten(1).double()[..., None]
    normal = (terms * weight).transpose(1, 2) @ terms + 1e-9 * torch.eye(4, device=tile.device, dtype=torch.float64)
    right = (terms * weight).transpose(1, 2) @ level.flatten(1).log().double()[..., None]
    b, c, d = torch.linalg.solve(normal, right)[:, 1:, 0].unbind(dim=1)
    curved = d < -1e-4  # a plateau or a valley has no center
    half = torch.where(curved, -2 * d, torch.ones_like(d))
    moved = torch.stack([b / half, c / half], dim=1).clamp(-1.0, 1.0)
    return torch.where(curved[:, None], moved, torch.zeros_like(moved)).float()
