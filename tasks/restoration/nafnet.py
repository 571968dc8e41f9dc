"""NAFNet: a U-Net of blocks without activation functions (Chen et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from tasks.restoration.body import Body, Condition
from visionkit.families.restoration.hole_filling import fill_holes


class _LocalMean(nn.Module):
    """In training the mean of the whole map; in inference that of a square around every place (Chu et al., 2022).

    A network that was trained on patches then meets means over areas of the size that it knows. At borders the square
    has the part that lies within the map.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 1, 1) in training, to (B, C, h, w) otherwise."""
        if self.training:
            return x.mean((2, 3), keepdim=True)
        if torch.is_grad_enabled():  # of sums, rounding would leave a gradient where `find_reach` looks for none
            before, behind = self.side // 2, (self.side - 1) // 2
            around = (before, behind, before, behind)
            total, share = (F.avg_pool2d(F.pad(each, around), self.side, 1) for each in (x, torch.ones_like(x[:1, :1])))
            return total / share
        # Sums up to a place, and the difference of two of them: the cost does not depend on the side.
        return self._along(self._along(x.float(), 2), 3).to(x.dtype)

    def _along(self, x: Tensor, axis: int) -> Tensor:
        place = torch.arange(x.shape[axis], device=x.device)
        last = (place + (self.side - 1) // 2).clamp(max=x.shape[axis] - 1)
        first = (place - self.side // 2).clamp(min=0)
        before = x.cumsum(axis)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        total = before.index_select(axis, last) - (before - x).index_select(axis, first)
        return total / (last - first + 1).view(shape).to(x.dtype)


class _Gate(nn.Module):
    """The product of the two halves of the channels, in place of an activation function."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return left * right


class _Block(nn.Module):
    """Depthwise convolution with channel attention, then two pointwise convolutions; each added with its own scale."""

    def __init__(self, width: int, side: int | None) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            LayerNorm2d(width, eps=1e-6),
            nn.Conv2d(width, 2 * width, 1),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width),
            _Gate(),
        )
        mean = nn.AdaptiveAvgPool2d(1) if side is None else _LocalMean(side)
        self.attention = nn.Sequential(mean, nn.Conv2d(width, width, 1))
        self.project = nn.Conv2d(width, width, 1)
        self.pointwise = nn.Sequential(
            LayerNorm2d(width, eps=1e-6), nn.Conv2d(width, 2 * width, 1), _Gate(), nn.Conv2d(width, width, 1)
        )
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial(x)
        x = x + self.beta * self.project(y * self.attention(y))
        out: Tensor = x + self.gamma * self.pointwise(x)
        return out


class NAFNet(Body):
    """A U-Net whose blocks have products of channels in place of activation functions; what it gives is added.

    Chen et al., Simple Baselines for Image Restoration, 2022. The paper's networks of `width` 32 have, for GoPro,
    `encoder` (1, 1, 1, 28), `middle` 1 and `decoder` (1, 1, 1, 1), 17,111,907 parameters, and for SIDD (2, 2, 4, 8), 12
    and (2, 2, 2, 2), 29,159,715. The default (407,603) is small enough for training on a CPU.

    The channel attention takes means over the whole image, so a tile is processed a little differently from the same
    part of the whole unless `pool` bounds them: then every block sees half of `pool` pixels further to each side.

    Args:
        channels: Channels of the image; 1 or 3.
        width: Channels at full size; every halving doubles them.
        encoder: Number of blocks before each halving, the finest first.
        middle: Number of blocks at the coarsest scale.
        decoder: Number of blocks after each doubling, the coarsest first.
        pool: Side, in pixels of the image, of the square whose mean the channel attention takes in inference; about one
            and a half times the side of the training patches (Chu et al., 2022). None for the whole image.
        condition: A further input beside the image, `mask` or `noise_level`; none in the paper. What a mask hides is
            guessed at from around it, see `fill_holes`, and what the network gives is added to that guess.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 16,
        encoder: Sequence[int] = (1, 1, 1),
        middle: int = 2,
        decoder: Sequence[int] = (1, 1, 1),
        pool: int | None = None,
        condition: Condition | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition
        if len(encoder) != len(decoder):
            raise ValueError(f"encoder has {len(encoder)} numbers and decoder {len(decoder)}: give as many to both")
        if pool is not None and pool < 1:
            raise ValueError(f"pool {pool}: give a number of pixels, at least 1, or none")
        levels = len(encoder)
        self.divisor = 2**levels

        def blocks(level: int, count: int) -> nn.Sequential:
            side = None if pool is None else max(1, pool >> level)
            return nn.Sequential(*(_Block(width << level, side) for _ in range(count)))

        self.head = nn.Conv2d(channels + (condition is not None), width, 3, padding=1)
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        self.encoder = nn.ModuleList(blocks(level, count) for level, count in enumerate(encoder))
        self.down = nn.ModuleList(nn.Conv2d(width << level, width << (level + 1), 2, 2) for level in range(levels))
        self.middle = blocks(levels, middle)
        coarse_first = range(levels - 1, -1, -1)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width << (level + 1), width << (level + 2), 1, bias=False), nn.PixelShuffle(2))
            for level in coarse_first
        )
        self.decoder = nn.ModuleList(blocks(level, count) for level, count in zip(coarse_first, decoder, strict=True))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.condition == "mask" and condition is not None:
            image = fill_holes(image, condition, len(self.encoder))
        seen = image if self.condition is None else torch.cat([image, self.given(image, condition)], 1)
        x, maps = self.head(seen), []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            maps.append(blocks(x))
            x = down(maps[-1])
        x = self.middle(x)
        for up, blocks in zip(self.up, self.decoder, strict=True):
            x = blocks(up(x) + maps.pop())
        out: Tensor = image + self.tail(x)
        return out
