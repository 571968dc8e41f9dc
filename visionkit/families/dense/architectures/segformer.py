"""The all-MLP decoder of SegFormer (Xie et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.segformer import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, choose_strides


class SegFormerDecoder(Decoder):
    """Every map projected, enlarged and fused."""

    stride = 4

    def __init__(self, backbone: Backbone, options: SegFormer, outputs: int) -> None:
        super().__init__()
        self.decoder = smp.SegformerDecoder(
            encoder_channels=[3, *backbone.channels.values()], encoder_depth=5, segmentation_channels=options.channels
        )
        initialize_decoder(self.decoder)
        self.channels = options.channels

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        # The library's decoder projects rows of a matrix and every map in its own size. A 1x1 convolution is the same
        # without transposing, and commutes with resizing, so each map is projected where it is smaller.
        target = (size[0] // self.stride, size[1] // self.stride)
        parts = []
        for stage, (stride, values) in zip(self.decoder.mlp_stage, reversed(features.pyramid.items()), strict=True):
            finer = stride < self.stride
            values = _resized(values, target) if finer else values
            values = F.conv2d(values, stage.linear.weight[:, :, None, None], stage.linear.bias)
            parts.append(values if finer else _resized(values, target))
        return cast(Tensor, self.decoder.fuse_stage(torch.cat(parts, dim=1)))


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class SegFormer(DenseArchitecture):
    """SegFormer (Xie et al., 2021): all maps from stride 2 to 32 that the backbone has, at least two.

    Attributes:
        channels: Number of channels of the projections and of the result.
    """

    channels: int = 256

    name: ClassVar[str] = "segformer"
    decoder = SegFormerDecoder

    def needs(self, backbone: str) -> Needs:
        return Needs(choose_strides(self.name, backbone, (2, 4, 8, 16, 32), 2))
