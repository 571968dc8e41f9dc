"""A pyramid from a network whose maps all have one stride."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn


class SimplePyramid(nn.Module):
    """Maps of several strides from the one last map of a plain transformer or mixer.

    The scaling half of ViTDet's simple feature pyramid (Li et al. 2022, "Exploring Plain Vision Transformer Backbones
    for Object Detection"): finer maps by transposed 2x2 convolutions, coarser ones by 2x2 max pooling. Its 1x1 and 3x3
    convolutions are a neck's business. Where the asked stride is not the map's own times a power of two (patches of 14
    pixels), the nearest power is taken and the map resized to what the stride promises.

    Args:
        in_channels: Channels of the map.
        stride: Its stride in pixels.
        strides: The strides to give.

    Attributes:
        channels: Channels of each stride: halved with each doubling of the resolution.
    """

    channels: dict[int, int]

    def __init__(self, in_channels: int, stride: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.channels = {}
        self.exact: dict[int, bool] = {}
        scales: dict[str, nn.Module] = {}
        for wanted in strides:
            doublings = round(math.log2(stride / wanted))
            layers: list[nn.Module] = []
            width = in_channels
            for step in range(doublings):
                if step:
                    layers += [LayerNorm2d(width), nn.GELU()]
                layers.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
                width //= 2
            layers += [nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True) for _ in range(-doublings)]
            scales[str(wanted)] = nn.Sequential(*layers)
            self.channels[wanted] = width
            self.exact[wanted] = wanted * 2**doublings == stride if doublings >= 0 else stride * 2**-doublings == wanted
        self.scales = nn.ModuleDict(scales)

    def forward(self, x: Tensor, image_size: tuple[int, int]) -> dict[int, Tensor]:
        """Scales (B, C, h, w), made from an image of `image_size` (H, W), to the maps by their stride."""
        pyramid: dict[int, Tensor] = {}
        for wanted, exact in self.exact.items():
            scaled = cast(Tensor, self.scales[str(wanted)](x))
            if not exact:
                size = tuple((side + wanted - 1) // wanted for side in image_size)
                scaled = F.interpolate(scaled, size=size, mode="bilinear", align_corners=False)
            pyramid[wanted] = scaled
        return pyramid
