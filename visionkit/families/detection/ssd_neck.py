"""The maps of SSD: some of the backbone's, and ever coarser ones by convolutions of stride 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.nn.norms import group_norm


class SSDNeck(nn.Module):
    """Maps of a backbone brought to one width, and coarser ones on top (Liu et al., 2016).

    Args:
        channels: Channels of each map of the backbone, by stride.
        width: Channels of every map that comes out.
        levels: Maps that come out, at least as many as the backbone gives.

    Attributes:
        strides: Strides of the maps that come out, finest first.
        widths: Their channels.
    """

    def __init__(self, channels: Mapping[int, int], width: int = 256, levels: int = 6) -> None:
        super().__init__()
        self.own = tuple(sorted(channels))
        more = max(0, levels - len(self.own))
        self.strides = self.own + tuple(self.own[-1] * 2 ** (k + 1) for k in range(more))
        self.widths = (width,) * len(self.strides)
        self.lateral = nn.ModuleList(_block(channels[stride], width, 1) for stride in self.own)
        half = max(1, width // 2)
        self.extra = nn.ModuleList(
            nn.Sequential(_block(width, half, 1), _block(half, width, 3, 2)) for _ in range(more)
        )

    def forward(self, pyramid: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Maps (B, C, h, w) by stride to maps (B, width, h, w) by stride."""
        maps = [cast(Tensor, block(pyramid[stride])) for stride, block in zip(self.own, self.lateral, strict=True)]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return dict(zip(self.strides, maps, strict=True))


def _block(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, group_norm(width), nn.ReLU(inplace=True))


class SSD300Neck(nn.Module):
    """The maps of the published SSD300 on VGG-16: 38, 19, 10, 5, 3 and 1 places a side.

    The map of stride 8 (conv4_3) is normalized and scaled; that of stride 16 (conv5_3) goes through what became of
    VGG's fully connected layers, with holes.

    Args:
        channels: Channels of the backbone's maps of stride 8 and 16.
    """

    strides = (8, 16, 32, 64, 100, 300)
    widths = (512, 1024, 512, 256, 256, 256)

    def __init__(self, channels: Mapping[int, int]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels[8],), 20.0))
        self.fc = nn.Sequential(
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(channels[16], 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        )
        self.extra = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, middle, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(middle, after, 3, stride, padding=1 if stride == 2 else 0),
                nn.ReLU(inplace=True),
            )
            for before, middle, after, stride in (
                (1024, 256, 512, 2),
                (512, 128, 256, 2),
                (256, 128, 256, 1),
                (256, 128, 256, 1),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Maps of stride 8 and 16 to the six maps, by their distance of places at 300 pixels."""
        maps = [self.scale.view(1, -1, 1, 1) * F.normalize(pyramid[8]), self.fc(pyramid[16])]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return dict(zip(self.strides, maps, strict=True))
