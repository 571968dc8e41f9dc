"""Feature pyramid for segmentation (Kirillov et al., 2019, "Panoptic Feature Pyramid Networks")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.fpn import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, choose_strides


class FPNDecoder(Decoder):
    """A feature pyramid, its levels enlarged and merged."""

    stride = 4

    def __init__(self, backbone: Backbone, options: FPN, outputs: int) -> None:
        super().__init__()
        self.decoder = smp.FPNDecoder(
            encoder_channels=list(backbone.channels.values()),
            encoder_depth=4,
            pyramid_channels=options.pyramid_channels,
            segmentation_channels=options.channels,
            dropout=options.dropout,
            merge_policy=options.merge,
        )
        initialize_decoder(self.decoder)
        self.channels = self.decoder.out_channels

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        return cast(Tensor, self.decoder(list(features.pyramid.values())))


@dataclass(frozen=True)
class FPN(DenseArchitecture):
    """Feature pyramid for segmentation (Kirillov et al., 2019): maps of strides 4, 8, 16, 32.

    Attributes:
        pyramid_channels: Number of channels of the pyramid's levels.
        channels: Number of channels of the branch of each level.
        dropout: Dropout probability of whole channels, in [0, 1).
        merge: How the branches are merged: `add` or `cat`.
    """

    pyramid_channels: int = 256
    channels: int = 128
    dropout: float = 0.2
    merge: Literal["add", "cat"] = "add"

    name: ClassVar[str] = "fpn"
    decoder = FPNDecoder

    def __post_init__(self) -> None:
        if self.channels % 32 or self.channels < 64:
            raise UsageError(f"model.fpn.channels {self.channels}: multiples of 32 from 64 on, for its 32 group norms")

    def needs(self, backbone: str) -> Needs:
        return Needs(choose_strides(self.name, backbone, (4, 8, 16, 32), 4))
