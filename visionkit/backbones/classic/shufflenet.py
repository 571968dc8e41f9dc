"""ShuffleNet v1 (Zhang et al. 2017) and v2 (Ma et al. 2018, torchvision's)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["ShuffleNetV1", "ShuffleNetV2"]

# Table 1 of the v1 paper: channels of stage 2 by the number of groups; stages 3 and 4 double them.
_STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
_STAGES_V2 = {
    "0_5": (24, 48, 96, 192, 1024),
    "1_0": (24, 116, 232, 464, 1024),
    "1_5": (24, 176, 352, 704, 1024),
    "2_0": (24, 244, 488, 976, 2048),
}


class ShuffleNetV1(ClassicNet):
    """Grouped 1x1 convolutions with a channel shuffle between them.

    "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices".

    Args:
        groups: Number of groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
        width: Scale of the channels of the stages.
        stem: Channels of the first convolution.
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before the classifier.
        global_pool: `avg` in the paper.
    """

    def __init__(
        self,
        groups: int = 3,
        width: float = 1.0,
        stem: int = 24,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_chans, stem, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        previous, taps = stem, [("conv1.2", stem, 2), ("maxpool", stem, 4)]
        for index, (repeats, stride) in enumerate(((4, 8), (8, 16), (4, 32))):
            channels = int(_STAGE2[groups] * width) * 2**index
            # The very first 1x1 convolution reads too few channels to be grouped.
            units = [_Unit(previous, channels, groups, 2, first_groups=1 if index == 0 else groups)]
            units += [_Unit(channels, channels, groups, 1, first_groups=groups) for _ in range(repeats - 1)]
            setattr(self, f"stage{index + 2}", nn.Sequential(*units))
            taps.append((f"stage{index + 2}.{repeats - 1}", channels, stride))
            previous = channels
        self.fc = nn.Linear(previous, num_classes) if num_classes else nn.Identity()
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("conv1", "maxpool", "stage2", "stage3", "stage4"),
            taps=taps,
            classifier="fc",
            pool=global_pool,
            drop_rate=drop_rate,
        )


class _Unit(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, groups: int, stride: int, first_groups: int) -> None:
        super().__init__()
        self.stride, self.groups = stride, groups
        inner = out_channels // 4
        grown = out_channels - in_channels if stride == 2 else out_channels  # the shortcut is concatenated
        self.conv1, self.bn1 = nn.Conv2d(in_channels, inner, 1, groups=first_groups, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, grown, 1, groups=groups, bias=False), nn.BatchNorm2d(grown)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        batch, width, height, length = y.shape
        y = y.view(batch, self.groups, width // self.groups, height, length).transpose(1, 2).reshape(y.shape)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        if self.stride == 2:
            return F.relu(torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), y), dim=1))
        return F.relu(x + y)


class ShuffleNetV2(ClassicNet):
    """Half of the channels pass by each unit.

    "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design".

    Args:
        width: `0_5`, `1_0`, `1_5` or `2_0`.
        num_classes: Outputs.
        in_chans: Channels of the input.
        drop_rate: Before the classifier.
        global_pool: `avg` in the paper.
    """

    def __init__(
        self,
        width: str = "1_0",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        from torchvision.models import ShuffleNetV2 as Network

        channels = _STAGES_V2[width]
        self.adopt(Network([4, 8, 4], list(channels), num_classes=max(1, num_classes)), in_chans, "conv1.0")
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
            taps=(
                ("conv1.2", channels[0], 2),
                ("maxpool", channels[0], 4),
                ("stage2.3", channels[1], 8),
                ("stage3.7", channels[2], 16),
                ("stage4.3", channels[3], 32),
            ),
            classifier="fc",
            num_features=channels[4],
            pool=global_pool,
            drop_rate=drop_rate,
        )


def _cfg(url: str = "", **more: Any) -> dict[str, Any]:
    first_conv = "conv1.0"
    return declaration((3, 224, 224), classifier="fc", first_conv=first_conv, url=url, **more)


_V2 = {
    "shufflenet_v2_x0_5": "https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth",
    "shufflenet_v2_x1_0": "https://download.pytorch.org/models/shufflenetv2_x1-5666bf0f80.pth",
    "shufflenet_v2_x1_5": "https://download.pytorch.org/models/shufflenetv2_x1_5-3c479a10.pth",
    "shufflenet_v2_x2_0": "https://download.pytorch.org/models/shufflenetv2_x2_0-8be3c8ee.pth",
}
_V1 = ("x1_0_g1", "x1_0_g2", "x1_0_g3", "x1_0_g4", "x1_0_g8", "x0_5_g3", "x1_5_g3", "x2_0_g3")
default_cfgs = generate_default_cfgs(
    {
        **{f"shufflenet_v1_{name}": _cfg() for name in _V1},
        **{f"{name}.tv_in1k": _cfg(url, license="bsd-3-clause") for name, url in _V2.items()},
    }
)


@register_model
def shufflenet_v1_x1_0_g1(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """No groups."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_0_g1", pretrained, **{"groups": 1, **kwargs})


@register_model
def shufflenet_v1_x1_0_g2(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Two groups."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_0_g2", pretrained, **{"groups": 2, **kwargs})


@register_model
def shufflenet_v1_x1_0_g3(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Three groups, the paper's usual choice."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_0_g3", pretrained, **kwargs)


@register_model
def shufflenet_v1_x1_0_g4(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Four groups."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_0_g4", pretrained, **{"groups": 4, **kwargs})


@register_model
def shufflenet_v1_x1_0_g8(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Eight groups."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_0_g8", pretrained, **{"groups": 8, **kwargs})


@register_model
def shufflenet_v1_x0_5_g3(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Half the channels."""
    return build(ShuffleNetV1, "shufflenet_v1_x0_5_g3", pretrained, **{"width": 0.5, "stem": 12, **kwargs})


@register_model
def shufflenet_v1_x1_5_g3(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """One and a half times the channels."""
    return build(ShuffleNetV1, "shufflenet_v1_x1_5_g3", pretrained, **{"width": 1.5, **kwargs})


@register_model
def shufflenet_v1_x2_0_g3(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Twice the channels."""
    return build(ShuffleNetV1, "shufflenet_v1_x2_0_g3", pretrained, **{"width": 2.0, "stem": 48, **kwargs})


@register_model
def shufflenet_v2_x0_5(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Half the channels."""
    return build(ShuffleNetV2, "shufflenet_v2_x0_5", pretrained, **{"width": "0_5", **kwargs})


@register_model
def shufflenet_v2_x1_0(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """The paper's base."""
    return build(ShuffleNetV2, "shufflenet_v2_x1_0", pretrained, **kwargs)


@register_model
def shufflenet_v2_x1_5(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """One and a half times the channels."""
    return build(ShuffleNetV2, "shufflenet_v2_x1_5", pretrained, **{"width": "1_5", **kwargs})


@register_model
def shufflenet_v2_x2_0(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """Twice the channels."""
    return build(ShuffleNetV2, "shufflenet_v2_x2_0", pretrained, **{"width": "2_0", **kwargs})
