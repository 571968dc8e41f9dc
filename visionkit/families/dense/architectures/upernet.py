"""UPerNet (Xiao et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.upernet import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, Norm, choose_strides


class UPerNetDecoder(Decoder):
    """Pyramid pooling on top of a feature pyramid, all levels fused."""

    stride = 4
    pools = True

    def __init__(self, backbone: Backbone, options: UPerNet, outputs: int) -> None:
        super().__init__()
        self.decoder = smp.UPerNetDecoder(
            encoder_channels=[0, 0, *backbone.channels.values()],
            encoder_depth=5,
            decoder_channels=options.channels,
            use_norm=options.norm,
        )
        initialize_decoder(self.decoder)
        self.channels = options.channels

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        maps: list[Tensor | None] = [None, None, *features.pyramid.values()]  # it skips two finer ones
        return cast(Tensor, self.decoder(maps))


@dataclass(frozen=True)
class UPerNet(DenseArchitecture):
    """UPerNet (Xiao et al., 2018): maps of strides 4, 8, 16, 32.

    Attributes:
        channels: Number of channels of every level and of the result.
        norm: Normalization layers: `batchnorm`, `instancenorm` or `identity`.
    """

    channels: int = 256
    norm: Norm = "batchnorm"

    name: ClassVar[str] = "upernet"
    decoder = UPerNetDecoder

    def needs(self, backbone: str) -> Needs:
        return Needs(choose_strides(self.name, backbone, (4, 8, 16, 32), 4))
