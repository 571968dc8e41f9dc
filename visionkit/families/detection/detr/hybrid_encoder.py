"""The hybrid encoder of RT-DETR: attention within the coarsest map, convolutions between the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fusion = Literal["csp", "elan"]


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, where wanted, SiLU.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        side: Side of the kernel.
        stride: Stride of the convolution.
        groups: Groups of the convolution.
        act: Put SiLU behind it.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU(inplace=True) if act else nn.Identity()


class RepBlock(nn.Module):
    """A 3x3 and a 1x1 convolution side by side (RepVGG: Ding et al., 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.narrow = ConvNorm(width, width, 3, act=False), ConvNorm(width, width, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        return F.silu(self.wide(x) + self.narrow(x))


class CSPBlock(nn.Module):
    """Blocks on one of two branches (CSPNet: Wang et al., 2020).

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        blocks: Number of `RepBlock`s.
        hidden: Channels of the branches.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, hidden: int) -> None:
        super().__init__()
        self.main, self.shortcut = ConvNorm(inputs, hidden, 1), ConvNorm(inputs, hidden, 1)
        self.blocks = nn.Sequential(*(RepBlock(hidden) for _ in range(blocks)))
        self.last = ConvNorm(hidden, outputs, 1) if hidden != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        return cast(Tensor, self.last(self.blocks(self.main(x)) + self.shortcut(x)))


class ELANBlock(nn.Module):
    """Two `CSPBlock`s one after the other, all stages kept (GELAN: Wang et al., 2024), as D-FINE fuses maps.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        blocks: Number of `RepBlock`s in each.
        hidden: Channels of the stages.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, hidden: int) -> None:
        super().__init__()
        half = outputs
        self.first = ConvNorm(inputs, 2 * half, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(CSPBlock(width, hidden, blocks, hidden), ConvNorm(hidden, hidden, 3))
            for width in (half, hidden)
        )
        self.last = ConvNorm(2 * half + 2 * hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, outputs, h, w)."""
        parts = list(self.first(x).chunk(2, dim=1))
        for stage in self.stages:
            parts.append(stage(parts[-1]))
        return cast(Tensor, self.last(torch.cat(parts, dim=1)))


class EncoderLayer(nn.Module):
    """Self-attention among the positions of one map.

    Args:
        width: Channels.
        heads: Number of heads.
        feedforward: Width of the hidden layer.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def forward(self, map_: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        batch, width, height, wide = map_.shape
        x = map_.flatten(2).transpose(1, 2)
        placed = x + sine_positions(height, wide, width, map_.device).to(x.dtype)
        x = self.norm1(x + self.attention(placed, placed, x, need_weights=False)[0])
        x = cast(Tensor, self.norm2(x + self.linear2(F.gelu(self.linear1(x)))))
        return x.transpose(1, 2).reshape(batch, width, height, wide)


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """(height * width, channels) sines and cosines of row and column, positions row by row."""
    steps = channels // 4
    speed = 1.0 / 10000 ** (torch.arange(steps, dtype=torch.float32, device=device) / steps)
    rows = torch.arange(height, dtype=torch.float32, device=device)[:, None] * speed
    columns = torch.arange(width, dtype=torch.float32, device=device)[:, None] * speed
    down = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, width, -1)
    across = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(height, -1, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)


def branch_width(fusion: Fusion, width: int, expansion: float) -> int:
    """Channels of the branches that fuse two maps; arguments as of `HybridEncoder`."""
    return round(expansion * width // 2) if fusion == "elan" else int(expansion * width)


class HybridEncoder(nn.Module):
    """Hybrid encoder (RT-DETR: Zhao et al., 2024): all maps of one width, each informed of all others.

    Args:
        channels: Channels of the backbone's maps by their stride.
        width: Channels of the maps that it gives.
        heads: Heads of the attention in the coarsest map.
        feedforward: Width of its hidden layer.
        fusion: What fuses two maps: `csp` as RT-DETR, `elan` as D-FINE.
        blocks: Number of convolution blocks in a fusion.
        expansion: Width of a fusion's branches as a fraction of `width`.

    Attributes:
        strides: Strides of the maps, finest first.
    """

    def __init__(
        self,
        channels: Mapping[int, int],
        width: int,
        heads: int,
        feedforward: int,
        fusion: Fusion,
        blocks: int,
        expansion: float,
    ) -> None:
        super().__init__()
        elan, between = fusion == "elan", len(channels) - 1
        self.strides = tuple(channels)
        self.inputs = nn.ModuleList(ConvNorm(count, width, 1, act=False) for count in channels.values())
        self.attention = EncoderLayer(width, heads, feedforward)

        def fuse() -> nn.Module:
            kind = ELANBlock if elan else CSPBlock
            return kind(2 * width, width, blocks, branch_width(fusion, width, expansion))

        def halve() -> nn.Module:
            if elan:
                step = ConvNorm(width, width, 3, 2, groups=width, act=False)
                return nn.Sequential(ConvNorm(width, width, 1, act=False), step)
            return ConvNorm(width, width, 3, 2)

        self.laterals = nn.ModuleList(ConvNorm(width, width, 1, act=not elan) for _ in range(between))
        self.top_down = nn.ModuleList(fuse() for _ in range(between))
        self.downsamples = nn.ModuleList(halve() for _ in range(between))
        self.bottom_up = nn.ModuleList(fuse() for _ in range(between))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, h, w) maps, finest first, to (B, width, h, w) each."""
        levels = [layer(map_) for layer, map_ in zip(self.inputs, maps, strict=True)]
        levels[-1] = self.attention(levels[-1])
        for step, (lateral, fuse) in enumerate(zip(self.laterals, self.top_down, strict=True)):
            place = len(levels) - 1 - step
            levels[place] = lateral(levels[place])
            finer = levels[place - 1]
            levels[place - 1] = fuse(torch.cat([F.interpolate(levels[place], size=finer.shape[-2:]), finer], dim=1))
        for step, (halve, fuse) in enumerate(zip(self.downsamples, self.bottom_up, strict=True)):
            coarser, halved = levels[step + 1], halve(levels[step])
            if halved.shape[-2:] != coarser.shape[-2:]:  # of backbones that round the sides of their maps down
                halved = F.interpolate(halved, size=coarser.shape[-2:])
            levels[step + 1] = fuse(torch.cat([halved, coarser], dim=1))
        return levels
