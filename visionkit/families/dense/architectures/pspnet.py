"""Pyramid pooling (Zhao et al., 2017) of one map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.pspnet import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.families.dense.architectures.base import (
    Decoder,
    DenseArchitecture,
    Needs,
    Norm,
    choose_strides,
    dilated,
)


class PSPNetDecoder(Decoder):
    """One map, pooled to several grids and joined with them."""

    head = "3x3"
    pools = True

    def __init__(self, backbone: Backbone, options: PSPNet, outputs: int) -> None:
        super().__init__()
        self.stride, self.channels = options.stride, options.channels
        self.decoder = smp.PSPDecoder(
            encoder_channels=[backbone.channels[options.stride]],
            use_norm=options.norm,
            out_channels=options.channels,
            dropout=options.dropout,
        )
        initialize_decoder(self.decoder)

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        return cast(Tensor, self.decoder([features.pyramid[self.stride]]))


@dataclass(frozen=True)
class PSPNet(DenseArchitecture):
    """PSPNet (Zhao et al., 2017).

    Attributes:
        channels: Number of channels of the result.
        dropout: Dropout probability of whole channels, in [0, 1).
        stride: Stride of the map. The paper dilates the deepest stages to 8 (`dilate`); without, it is the network's
            own map of that stride, which is shallow and fast.
        dilate: Dilate the backbone's later stages so that the deepest map has that stride.
        norm: Normalization layers: `batchnorm`, `instancenorm` or `identity`.
    """

    channels: int = 512
    dropout: float = 0.2
    stride: int = 8
    dilate: bool = False
    norm: Norm = "batchnorm"

    name: ClassVar[str] = "pspnet"
    decoder = PSPNetDecoder

    def needs(self, backbone: str) -> Needs:
        if self.dilate:
            return dilated(backbone, (self.stride,), self.stride, "model.pspnet.dilate: leave it out")
        return Needs(choose_strides(self.name, backbone, (self.stride,), 1))
