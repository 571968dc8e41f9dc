"""PSMNet (Chang and Chen, 2018): features with spatial pyramid pooling, a 4-D cost volume and stacked hourglasses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from tasks.stereo.architecture import StereoArchitecture
from tasks.stereo.network import CostVolumeNetwork
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Standardizing

_POOLS = (64, 32, 16, 8)  # sides of the pooled regions, in pixels of a quarter of the image


def _conv(channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels, out, kernel, stride, dilation if kernel > 1 else 0, dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out))


class _Block(nn.Module):
    """Two convolutions beside a skip, without an activation behind the sum."""

    def __init__(self, channels: int, out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(channels, out, stride=stride, dilation=dilation)
        self.conv2 = _conv(out, out, dilation=dilation)
        self.skip = None if channels == out and stride == 1 else _conv(channels, out, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(x))) + (x if self.skip is None else self.skip(x))
        return out


class PyramidFeatures(Standardizing):
    """Features at a quarter of the image's sides that see regions of up to 256 pixels.

    Args:
        width: Channels of the first convolutions; those behind have two and four times as many.
        blocks: Number of residual blocks of the four groups.
        channels: Channels of the features.
    """

    def __init__(self, width: int, blocks: tuple[int, int, int, int], channels: int) -> None:
        super().__init__()
        self.expect(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        layers: list[nn.Module] = []
        for before, stride in ((3, 2), (width, 1), (width, 1)):
            layers += [_conv(before, width, stride=stride), nn.ReLU()]
        self.first = nn.Sequential(*layers)
        wide, pooled = 4 * width, width
        groups = ((width, width, 1, 1), (width, 2 * width, 2, 1), (2 * width, wide, 1, 1), (wide, wide, 1, 2))
        self.groups = nn.ModuleList(
            nn.Sequential(
                _Block(before, out, stride, dilation), *(_Block(out, out, 1, dilation) for _ in range(count - 1))
            )
            for (before, out, stride, dilation), count in zip(groups, blocks, strict=True)
        )
        self.pools = nn.ModuleList(nn.Sequential(_conv(wide, pooled, kernel=1), nn.ReLU()) for _ in _POOLS)
        joined = 2 * width + wide + len(_POOLS) * pooled
        self.last = nn.Sequential(_conv(joined, wide), nn.ReLU(), nn.Conv2d(wide, channels, 1, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) float RGB in [0, 1] to (B, channels, h / 4, w / 4)."""
        x = self.groups[0](self.first(self.standardized(image)))
        raw = self.groups[1](x)
        deep = self.groups[3](self.groups[2](raw))
        size = deep.shape[-2:]
        joined = [raw, deep]
        for side, layer in zip(_POOLS, self.pools, strict=True):
            # What a region has beyond the image does not count, so small images have regions too.
            small = layer(F.avg_pool2d(deep, side, side, ceil_mode=True, count_include_pad=False))
            joined.append(F.interpolate(small, size=size, mode="bilinear", align_corners=False))
        out: Tensor = self.last(torch.cat(joined, dim=1))
        return out


@dataclass(frozen=True)
class PSMNet(StereoArchitecture):
    """PSMNet (Chang and Chen, 2018), 5,224,768 parameters.

    Attributes:
        max_disparity: Largest disparity that it can state, in pixels of its input; a multiple of 16.
        width: Channels of the first convolutions.
        blocks: Number of residual blocks of the four groups of the features.
        channels: Channels of the features that are matched, and of the volume.
        hourglasses: Number of stacked hourglasses.
    """

    width: int = 32
    blocks: tuple[int, int, int, int] = (3, 16, 3, 3)
    channels: int = 32
    hourglasses: int = 3

    def build(self, backbone: None, spec: InputSpec) -> CostVolumeNetwork:
        """The network with random weights."""
        features = PyramidFeatures(self.width, self.blocks, self.channels)
        return CostVolumeNetwork(features, self.channels, self.channels, self.hourglasses, self.max_disparity)


@dataclass(frozen=True)
class PSMNetSmall(PSMNet):
    """PSMNet in a size that is trained on a CPU: one hourglass and an eighth of the features' layers.

    Attributes:
        max_disparity: Largest disparity that it can state, in pixels of its input; a multiple of 16.
    """

    max_disparity: int = 64
    width: int = 16
    blocks: tuple[int, int, int, int] = (1, 2, 1, 1)
    channels: int = 16
    hourglasses: int = 1
