"""DeepLabV3+ (Chen et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3 import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, choose_strides, dilated


class DeepLabV3PlusDecoder(Decoder):
    """Dilated convolutions of several rates, joined with a finer map."""

    stride = 4
    pools = True

    def __init__(self, backbone: Backbone, options: DeepLabV3Plus, outputs: int) -> None:
        super().__init__()
        have = backbone.channels
        self.output_stride, self.channels = options.output_stride, options.channels
        self.decoder = smp.DeepLabV3PlusDecoder(
            encoder_channels=[0, 0, have[4], have[options.output_stride]],
            encoder_depth=5,
            out_channels=options.channels,
            atrous_rates=tuple(options.rates),
            output_stride=16,  # only of its enlarging, which is ours below
            aspp_separable=options.separable,
            aspp_dropout=options.dropout,
        )

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        fine = self.decoder.block1(features.pyramid[4])
        x = self.decoder.aspp(features.pyramid[self.output_stride])
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return cast(Tensor, self.decoder.block2(torch.cat([x, fine], dim=1)))


@dataclass(frozen=True)
class DeepLabV3Plus(DenseArchitecture):
    """DeepLabV3+ (Chen et al., 2018): maps of stride 4 and of `output_stride`.

    Attributes:
        channels: Number of channels of the result.
        rates: Dilation rates of the three dilated convolutions.
        output_stride: Output stride of the deepest map: 8 or 16 dilate the backbone's later stages, which not every
            network can; 32 takes it as it is.
        separable: Whether the dilated convolutions are depthwise separable.
        dropout: Dropout probability in [0, 1).
    """

    channels: int = 256
    rates: tuple[int, int, int] = (12, 24, 36)
    output_stride: int = 16
    separable: bool = True
    dropout: float = 0.5

    name: ClassVar[str] = "deeplabv3plus"
    decoder = DeepLabV3PlusDecoder

    def __post_init__(self) -> None:
        if self.output_stride not in (8, 16, 32):
            raise UsageError(f"model.deeplabv3plus.output_stride {self.output_stride}: allowed are 8, 16, 32")

    def needs(self, backbone: str) -> Needs:
        if self.output_stride == 32:
            return Needs(choose_strides(self.name, backbone, (4, 32), 2))
        remedy = "architecture deeplabv3plus: give it output_stride 32"
        return dilated(backbone, (4, self.output_stride), self.output_stride, remedy)
