"""DRUNet: a U-Net of residual blocks without biases, with a map of the noise level (Zhang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.restoration.body import Body
from visionkit.families.restoration.residual import ResidualBlock


class DRUNet(Body):
    """A denoiser for all noise levels: nothing in it has a bias, so it scales with the image.

    Zhang et al., Plug-and-Play Image Restoration with Deep Denoiser Prior, 2021. 32,638,656 parameters for gray images,
    32,640,960 for color.

    Args:
        channels: Channels of the image; 1 or 3.
        widths: Channels at every scale, the finest first.
        blocks: Number of residual blocks at every scale, before and again after the coarsest.
    """

    condition = "noise_level"

    def __init__(self, channels: int = 1, widths: Sequence[int] = (64, 128, 256, 512), blocks: int = 4) -> None:
        super().__init__()
        self.divisor = 2 ** (len(widths) - 1)

        def residual(width: int) -> list[nn.Module]:
            return [ResidualBlock(width, bias=False) for _ in range(blocks)]

        steps = list(pairwise(widths))
        self.head = nn.Conv2d(channels + 1, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(*residual(fine), nn.Conv2d(fine, coarse, 2, 2, bias=False)) for fine, coarse in steps
        )
        self.inner = nn.Sequential(*residual(widths[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(coarse, fine, 2, 2, bias=False), *residual(fine))
            for fine, coarse in reversed(steps)
        )
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = self.given(image, condition)
        maps = [self.head(torch.cat([image, condition], 1))]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = self.inner(maps[-1])
        for up in self.up:
            x = up(x + maps.pop())
        out: Tensor = self.tail(x + maps.pop())
        return out
