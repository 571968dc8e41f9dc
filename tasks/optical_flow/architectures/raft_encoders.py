"""What RAFT sees of an image, at an eighth of its resolution: the paper's encoder, or any backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone
from visionkit.nn.normalize import Standardizing

Norm = Callable[[int], nn.Module]

STRIDE = 8
"""Of the map that is correlated."""


def normed(channels: int, out: int, kernel: int, stride: int, norm: Norm, relu: bool = True) -> nn.Sequential:
    """A convolution, a norm, and a ReLU."""
    layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2), norm(out), *([nn.ReLU()] if relu else [])]
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut.

    Args:
        channels: Channels of the map.
        out: Channels that it gives.
        stride: Of its first convolution, and of the shortcut.
        norm: Makes a norm for a number of channels.
    """

    def __init__(self, channels: int, out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.convnormrelu1 = normed(channels, out, 3, stride, norm)
        self.convnormrelu2 = normed(out, out, 3, 1, norm)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = normed(channels, out, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.downsample(x) + self.convnormrelu2(self.convnormrelu1(x)))


class ResidualEncoder(nn.Module):
    """The encoder of the paper.

    Args:
        channels: Channels of an image.
        out: Channels that it gives.
        norm: Makes a norm for a number of channels: instance norm for features, batch norm for the context.
    """

    def __init__(self, channels: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.convnormrelu = normed(channels, 64, 7, 2, norm)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1, norm), ResidualBlock(64, 64, 1, norm))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2, norm), ResidualBlock(96, 96, 1, norm))
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, 2, norm), ResidualBlock(128, 128, 1, norm))
        self.conv = nn.Conv2d(128, out, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, h, w) in [0, 1] to (B, out, h / 8, w / 8)."""
        x = self.convnormrelu(2 * image - 1)
        out: Tensor = self.conv(self.layer3(self.layer2(self.layer1(x))))
        return out


class BackboneEncoder(Standardizing):
    """The map of stride 8 of a backbone, brought to a number of channels.

    Args:
        name: Any timm backbone by name, or one of the classic networks.
        channels: Channels of an image.
        out: Channels that it gives.
        pretrained: Begin with the backbone's public weights.
    """

    def __init__(self, name: str, channels: int, out: int, pretrained: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(name, strides=(STRIDE,), in_chans=channels, use_final=False, pretrained=pretrained)
        self.conv = nn.Conv2d(self.backbone.channels[STRIDE], out, 1)
        self.expect(self.backbone.mean, self.backbone.std)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, h, w) in [0, 1] to (B, out, h / 8, w / 8)."""
        x = self.backbone(self.standardized(image)).pyramid[STRIDE]
        out: Tensor = self.conv(x)
        return out
