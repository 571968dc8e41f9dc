"""DeepDeblur: three networks from coarse to fine, each shown what the one before it has made (Nah et al., 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.restoration.body import Body
from visionkit.families.restoration.residual import ResidualBlock

_KERNEL = 5


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, _KERNEL, padding=_KERNEL // 2)


class DeepDeblur(Body):
    """A network per scale; the coarser sharp image is enlarged by convolution and shown beside the finer blurred one.

    Nah et al., Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring, 2017: 120 convolutions, and
    two that enlarge; 11,721,321 parameters. The paper's adversarial loss is not part of it.

    Args:
        channels: Channels of the image; 1 or 3.
        width: Channels of the residual blocks.
        blocks: Number of residual blocks per scale.
        levels: Number of scales; each has half the side of the one before it.
    """

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 19, levels: int = 3) -> None:
        super().__init__()
        self.divisor = 2 ** (levels - 1)

        def network(seen: int) -> nn.Sequential:
            inner = (ResidualBlock(width, kernel=_KERNEL) for _ in range(blocks))
            return nn.Sequential(_conv(seen, width), *inner, _conv(width, channels))

        self.coarsest = network(channels)
        self.finer = nn.ModuleList(network(2 * channels) for _ in range(levels - 1))
        self.enlarge = nn.ModuleList(
            nn.Sequential(_conv(channels, 4 * channels), nn.PixelShuffle(2)) for _ in range(levels - 1)
        )

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.scales(image)[0]

    def scales(self, image: Tensor, condition: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The restored image, and those of half the size and so on, the finest first."""
        images = [image]
        for _ in self.finer:
            images.append(F.avg_pool2d(images[-1], 2))
        # Around middle gray: the first convolutions then see what varies.
        restored = [self.coarsest(images.pop() - 0.5)]
        for network, enlarge in zip(self.finer, self.enlarge, strict=True):
            restored.append(network(torch.cat([images.pop() - 0.5, enlarge(restored[-1])], 1)))
        restored = [each + 0.5 for each in restored]
        return restored[-1], tuple(reversed(restored[:-1]))
