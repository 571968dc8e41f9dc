"""Residual networks for small images (He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["CifarResNet", "ResNetSmallStem"]


class CifarResNet(ClassicNet):
    """Section 4.2 of the paper: 6n + 2 layers of 16, 32 and 64 channels, with shortcuts that have no parameters.

    Args:
        blocks: n, residual blocks per stage.
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before the classifier.
        global_pool: `avg` in the paper.
    """

    def __init__(
        self,
        blocks: int = 3,
        num_classes: int = 10,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        previous, taps = 16, []
        for index, channels in enumerate((16, 32, 64)):
            units = [_Block(previous, channels, stride=1 if index == 0 else 2)]
            units += [_Block(channels, channels, stride=1) for _ in range(blocks - 1)]
            setattr(self, f"layer{index + 1}", nn.Sequential(*units))
            taps.append((f"layer{index + 1}.{blocks - 1}", channels, 2**index))
            previous = channels
        self.fc = nn.Linear(64, num_classes) if num_classes else nn.Identity()
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("stem", "layer1", "layer2", "layer3"),
            taps=taps,
            classifier="fc",
            pool=global_pool,
            drop_rate=drop_rate,
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.grown = stride, out_channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.grown:  # option A: every second pixel, zeros for the new channels
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grown))
        return F.relu(x + y)


class ResNetSmallStem(ResNet):
    """timm's ResNet with a 3x3 stem of stride 1 and no max pooling, the usual change for images of 32x32 pixels."""

    def __init__(self, block: Any, layers: Any, in_chans: int = 3, **kwargs: Any) -> None:
        super().__init__(block, layers, in_chans=in_chans, **kwargs)
        stem = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.set_submodule("conv1", stem)
        self.set_submodule("maxpool", nn.Identity())
        info: list[Any] = self.feature_info
        for entry in info:
            # The stem's stride of 2 and the pooling's are gone; layer1 has the stem's stride.
            entry["reduction"] = 1 if entry["module"] == "act1" else entry["reduction"] // 4


def _cfg(first_conv: str) -> dict[str, Any]:
    return declaration(
        (3, 32, 32),
        classifier="fc",
        first_conv=first_conv,
        num_classes=10,
        crop_pct=1.0,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


default_cfgs = generate_default_cfgs(
    {"resnet20": _cfg("stem.0"), "resnet56": _cfg("stem.0"), "resnet18_cifar": _cfg("conv1")}
)


@register_model
def resnet20(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Three blocks per stage."""
    return build(CifarResNet, "resnet20", pretrained, **kwargs)


@register_model
def resnet56(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Nine blocks per stage."""
    return build(CifarResNet, "resnet56", pretrained, **{"blocks": 9, **kwargs})


@register_model
def resnet18_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 for images of 32x32 pixels."""
    model: nn.Module = build_model_with_cfg(
        ResNetSmallStem, "resnet18_cifar", pretrained, **{"block": BasicBlock, "layers": (2, 2, 2, 2), **kwargs}
    )
    return model
