"""Residual networks at low resolution: EDSR, RCAN and the small one of the example models."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from visionkit.families.restoration.body import Body

_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


def _conv(before: int, after: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)


class Upsampler(nn.Sequential):
    """Sub-pixel convolutions that enlarge feature maps: twos for 2, 4 and 8, one step for 3."""

    def __init__(self, scale: int, width: int) -> None:
        steps = [2] * (scale.bit_length() - 1) if scale & (scale - 1) == 0 else [scale]
        layers: list[nn.Module] = []
        for step in steps:
            layers += [_conv(width, step * step * width), nn.PixelShuffle(step)]
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions without normalization, their sum scaled (Lim et al., 2017).

    Args:
        width: Channels.
        residual_scale: Factor of what is added.
        kernel: Side of the kernels; odd.
        bias: The convolutions have biases.
    """

    def __init__(self, width: int, residual_scale: float = 1.0, kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        first, second = (_conv(width, width, kernel, bias) for _ in range(2))
        self.layers = nn.Sequential(first, nn.ReLU(), second)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(x)
        return x + (change if self.residual_scale == 1.0 else change * self.residual_scale)


class EDSR(Body):
    """Residual blocks at low resolution, then sub-pixel convolutions (Lim et al., 2017).

    Args:
        scale: Factor.
        width: Channels; 64 in the baseline (1,369,859 parameters at x2), 256 in the large one.
        blocks: 16 in the baseline, 32 in the large one.
        residual_scale: 1 in the baseline, 0.1 in the large one.
    """

    color, space, skip = "rgb", "low", False

    def __init__(self, scale: int, width: int = 64, blocks: int = 16, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_DIV2K_MEAN).view(1, 3, 1, 1))
        self.head = _conv(3, width)
        inner = [ResidualBlock(width, residual_scale) for _ in range(blocks)]
        self.inner = nn.Sequential(*inner, _conv(width, width))
        self.tail = nn.Sequential(Upsampler(scale, width), _conv(width, 3))

    def forward(self, image: Tensor) -> Tensor:
        x = self.head(image - self.mean)
        out: Tensor = self.tail(x + self.inner(x)).float()
        return out + self.mean


class _ChannelAttention(nn.Module):
    """Scales channels by what the whole image holds of them (Zhang et al., 2018)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.layers(x)
        return out


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class RCAN(Body):
    """Residual groups of residual blocks with channel attention (Zhang et al., 2018).

    Its attention processes the whole image: windows are processed a little differently from the whole.

    Args:
        scale: Factor.
        width: Channels.
        groups: Residual groups; 10 in the paper.
        blocks: Blocks of each; 20 in the paper.
        reduction: Reduction factor of the channels within the attention.
    """

    color, space, skip = "rgb", "low", False

    def __init__(self, scale: int, width: int = 64, groups: int = 10, blocks: int = 20, reduction: int = 16) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_DIV2K_MEAN).view(1, 3, 1, 1))

        def block() -> nn.Module:
            attention = _ChannelAttention(width, reduction)
            return _Residual(_conv(width, width), nn.ReLU(), _conv(width, width), attention)

        def group() -> nn.Module:
            return _Residual(*(block() for _ in range(blocks)), _conv(width, width))

        self.head = _conv(3, width)
        self.inner = _Residual(*(group() for _ in range(groups)), _conv(width, width))
        self.tail = nn.Sequential(Upsampler(scale, width), _conv(width, 3))

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.tail(self.inner(self.head(image - self.mean))).float()
        return out + self.mean


class Compact(Body):
    """A small EDSR whose last convolution makes the pixels directly, added to bicubic: made for a CPU.

    Args:
        scale: Factor.
        width: Channels.
        blocks: Residual blocks.
        color: `y` or `rgb`.
    """

    space, skip = "low", True

    def __init__(self, scale: int, width: int = 32, blocks: int = 8, color: Literal["y", "rgb"] = "rgb") -> None:
        super().__init__()
        self.color = color
        channels = 1 if color == "y" else 3
        self.head = _conv(channels, width)
        self.inner = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), _conv(width, width))
        self.tail = nn.Sequential(_conv(width, channels * scale * scale), nn.PixelShuffle(scale))
        last = self.tail[0]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=1e-3)  # starts as bicubic
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        # Around middle gray: the first convolution then sees what varies.
        x = self.head(image - 0.5)
        out: Tensor = self.tail(x + self.inner(x))
        return out
