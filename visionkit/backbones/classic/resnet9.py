"""ResNet-9, the CIFAR-10 network of David Page's DAWNBench entry ("How to Train Your ResNet", 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["ResNet9"]


class ResNet9(ClassicNet):
    """Eight 3x3 convolutions and a linear layer: a preparation, three stages that halve the map, two of them residual.

    Args:
        num_classes: Outputs.
        in_chans: Channels of the input.
        channels: Number of channels of the preparation and of the three stages.
        global_pool: `max` in the original.
        drop_rate: Before the classifier.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512),
        global_pool: str = "max",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        c0, c1, c2, c3 = channels
        self.prep = _unit(in_chans, c0)
        self.layer1 = nn.Sequential(_unit(c0, c1), nn.MaxPool2d(2), _Residual(c1))
        self.layer2 = nn.Sequential(_unit(c1, c2), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(_unit(c2, c3), nn.MaxPool2d(2), _Residual(c3))
        self.head = nn.Linear(c3, num_classes) if num_classes else nn.Identity()
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("prep", "layer1", "layer2", "layer3"),
            taps=(("prep.2", c0, 1), ("layer1.2", c1, 2), ("layer2.1", c2, 4), ("layer3.2", c3, 8)),
            classifier="head",
            pool=global_pool,
            drop_rate=drop_rate,
        )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _unit(width, width)
        self.conv2 = _unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(self.conv1(x))
        return out


def _unit(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


_CIFAR10 = declaration(
    (3, 32, 32),
    classifier="head",
    first_conv="prep.0",
    num_classes=10,
    crop_pct=1.0,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)

default_cfgs = generate_default_cfgs({"resnet9": _CIFAR10, "resnet9_small": _CIFAR10})


@register_model
def resnet9(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Channels 64, 128, 256, 512."""
    return build(ResNet9, "resnet9", pretrained, **kwargs)


@register_model
def resnet9_small(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Channels 48, 96, 192, 256."""
    return build(ResNet9, "resnet9_small", pretrained, **{"channels": (48, 96, 192, 256), **kwargs})
