"""Any timm backbone as the features of a PSMNet-like network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from tasks.stereo.architecture import StereoArchitecture
from tasks.stereo.network import STRIDE, CostVolumeNetwork
from visionkit.backbones import Backbone, backbone_facts
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Standardizing

_STRIDES = (4, 8, 16)


class BackboneFeatures(Standardizing):
    """The maps of a backbone at 1/4, 1/8 and 1/16 of the image, joined top-down at 1/4 (Lin et al., 2017).

    Args:
        backbone: Built with these strides.
        channels: Channels of the features.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.expect(backbone.mean, backbone.std)
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in backbone.channels.values())
        self.last = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) float RGB in [0, 1] to (B, channels, h / 4, w / 4)."""
        maps = list(self.backbone(self.standardized(image)).pyramid.values())
        joined: Tensor | None = None
        for layer, each in zip(reversed(self.lateral), reversed(maps), strict=True):
            side = layer(each)
            size = side.shape[-2:]
            joined = side if joined is None else side + F.interpolate(joined, size=size, mode="nearest")
        assert joined is not None
        height, width = image.shape[-2] // STRIDE, image.shape[-1] // STRIDE
        out: Tensor = self.last(joined)
        return out if tuple(out.shape[-2:]) == (height, width) else F.interpolate(out, size=(height, width))


@dataclass(frozen=True)
class TimmCostVolume(StereoArchitecture):
    """A cost volume and hourglasses as PSMNet's, on the features of any timm backbone.

    Attributes:
        max_disparity: Largest disparity that it can state, in pixels of its input; a multiple of 16.
        backbone: Any timm backbone by name; one that is built for one size of image takes an input of a fixed size.
        pretrained: Begin with the public weights of the backbone.
        channels: Channels of the features that are matched, and of the volume.
        hourglasses: Number of stacked hourglasses.
    """

    backbone: str = "resnet18"
    pretrained: bool = False
    channels: int = 32
    hourglasses: int = 1

    def build(self, backbone: None, spec: InputSpec) -> CostVolumeNetwork:
        """The network with its first weights.

        Args:
            backbone: None.
            spec: Its size is what a backbone of a fixed size is built for.

        Raises:
            UsageError: A backbone that is built for one size, and images at their own.
        """
        fixed = backbone_facts(self.backbone).fixed_input_size
        if fixed and spec.resize_mode == "native":
            raise UsageError(
                f"model.timm_cost_volume.backbone {self.backbone}: is built for one size of image; set "
                "model.input.resize_mode to stretch or letterbox"
            )
        size = spec.size if fixed else None
        body = Backbone(self.backbone, strides=_STRIDES, image_size=size, use_final=False, pretrained=self.pretrained)
        features = BackboneFeatures(body, self.channels)
        return CostVolumeNetwork(features, self.channels, self.channels, self.hourglasses, self.max_disparity)

    def stored(self) -> Self:
        """Without the wish for public weights."""
        return dataclasses.replace(self, pretrained=False)
