"""Correlation of the features of two images: every displacement of a window, or all pairs as a pyramid."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.errors import UsageError, suggest
from visionkit.families.matching.warp import sample

CorrelationMode = Literal["full", "lookup"]


def local_correlation(first: Tensor, second: Tensor, max_displacement: int, stride: int) -> Tensor:
    """Mean products of features at every displacement of a square window (Dosovitskiy et al., 2015).

    Args:
        first: (B, C, h, w).
        second: (B, C, h, w).
        max_displacement: Largest displacement in pixels along each axis.
        stride: Pixels from one displacement to the next.

    Returns:
        (B, n * n, h, w), rows of displacements from the top down, with n = 2 * (max_displacement // stride) + 1; 0
        where the displaced pixel lies outside.
    """
    reach = max_displacement // stride
    steps = 2 * reach + 1
    border = reach * stride
    height, width = first.shape[-2:]
    padded = F.pad(second, (border,) * 4)
    # Rows are compared by one matrix product each; of its columns those of the window are taken. A product per
    # displacement would be hundreds of passes over the features.
    own = first.permute(0, 2, 3, 1)  # (B, h, w, C)
    columns = torch.arange(width, device=first.device)[:, None]
    columns = columns + stride * torch.arange(steps, device=first.device)  # (w, n)
    index = columns.expand(first.shape[0], height, width, steps)
    found = []
    for row in range(steps):
        other = padded[:, :, row * stride : row * stride + height].permute(0, 2, 1, 3)  # (B, h, C, w + 2 border)
        found.append((own @ other).gather(3, index))
    costs = torch.stack(found, dim=1)  # (B, n, h, w, n)
    return costs.permute(0, 1, 4, 2, 3).flatten(1, 2) / first.shape[1]


def check_mode(mode: str) -> None:
    """Refuses what is no `CorrelationMode`.

    Raises:
        UsageError: With those that there are.
    """
    if mode not in (allowed := get_args(CorrelationMode)):
        raise UsageError(f"correlation {mode!r}: allowed are {', '.join(allowed)}{suggest(mode, allowed)}")


class CorrelationPyramid:
    """The correlation of all pairs of pixels at several resolutions of the second image (Teed & Deng, 2020).

    Args:
        first: (B, C, h, w) features of the first image.
        second: (B, C, h, w) features of the second image.
        levels: Number of resolutions; each has half the side of the one before.
        radius: Pixels around a place, along each axis, whose correlations are looked up.
        mode: `full` keeps all pairs, (h w)^2 numbers; `lookup` computes those that are asked for, again every time:
            slower, and in memory that grows with h w alone.

    Raises:
        UsageError: An unknown mode.
    """

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int, mode: CorrelationMode = "full") -> None:
        check_mode(mode)
        self.first, self.mode, self.radius = first, mode, radius
        batch, channels, height, width = first.shape
        level = second
        if mode == "full":
            pairs = first.flatten(2).transpose(1, 2) @ second.flatten(2) / channels**0.5
            level = pairs.float().reshape(batch * height * width, 1, height, width)
        self.levels = [level]
        for _ in range(levels - 1):
            level = F.avg_pool2d(level, kernel_size=2, stride=2)
            self.levels.append(level)

    def __call__(self, places: Tensor) -> Tensor:
        """Correlations around places of the second image.

        Args:
            places: (B, 2, h, w) column and row for every pixel of the first image.

        Returns:
            (B, levels * (2 radius + 1)^2, h, w); of a level the columns of the window come one after the other.
        """
        reach = torch.arange(-self.radius, self.radius + 1, device=places.device, dtype=places.dtype)
        found = []
        for number, level in enumerate(self.levels):
            x, y = (places / 2**number).unbind(dim=1)
            found.append(self._all(level, x, y, reach) if self.mode == "full" else self._asked(level, x, y, reach))
        return torch.cat(found, dim=1)

    def _all(self, level: Tensor, x: Tensor, y: Tensor, reach: Tensor) -> Tensor:
        batch, height, width = x.shape
        side = len(reach)
        columns = (x.reshape(-1, 1, 1) + reach[:, None]).expand(-1, side, side)
        rows = (y.reshape(-1, 1, 1) + reach).expand(-1, side, side)
        values = sample(level, columns, rows).reshape(batch, height, width, side * side)
        return values.permute(0, 3, 1, 2)

    def _asked(self, level: Tensor, x: Tensor, y: Tensor, reach: Tensor) -> Tensor:
        batch, channels, height, width = self.first.shape
        own = self.first.flatten(2)[..., None]  # (B, C, h w, 1)
        flat_x, flat_y = x.reshape(batch, -1, 1), y.reshape(batch, -1, 1)
        found = []
        for step in reach:
            columns = (flat_x + step).expand(-1, -1, len(reach))
            other = sample(level, columns, flat_y + reach)  # (B, C, h w, side)
            found.append((own * other).sum(dim=1).transpose(1, 2) / channels**0.5)
        return torch.cat(found, dim=1).reshape(batch, -1, height, width)
