"""U-Net (Ronneberger et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, Norm, choose_strides


class UNetDecoder(Decoder):
    """Each doubling is joined with the backbone's map of that size; nothing is joined where one is missing."""

    head = "3x3"
    stride = 1

    def __init__(self, backbone: Backbone, options: UNet, outputs: int) -> None:
        super().__init__()
        have, channels = backbone.channels, list(options.channels)
        depth = max(have).bit_length() - 1
        if len(channels) < depth:
            raise UsageError(f"model.unet.channels {channels}: {depth} doublings need as many numbers")
        channels = channels[-depth:]
        self.strides = tuple(2**step for step in range(depth, 0, -1))
        self.decoder = smp.UnetDecoder(
            encoder_channels=[0, *(have.get(stride, 0) for stride in reversed(self.strides))],
            decoder_channels=channels,
            n_blocks=depth,
            use_norm=options.norm,
            attention_type=options.attention,
            interpolation_mode=options.interpolation,
        )
        initialize_decoder(self.decoder)
        self.channels = channels[-1]

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        maps = features.pyramid
        x = self.decoder.center(maps[self.strides[0]])
        for block, stride in zip(self.decoder.blocks, (*self.strides[1:], 1), strict=True):
            # Nothing is joined at full size, nor where the backbone has no map.
            joined = maps.get(stride) if stride > 1 else None
            x = block(x, size[0] // stride, size[1] // stride, joined)
        return cast(Tensor, x)


@dataclass(frozen=True)
class UNet(DenseArchitecture):
    """U-Net (Ronneberger et al., 2015): every map from stride 2 to 32 that the backbone has.

    Attributes:
        channels: Number of channels of the doublings, coarsest first; the last five, or as many as there are.
        norm: Normalization layers: `batchnorm`, `instancenorm` or `identity`.
        attention: `scse` (Roy et al., 2018), or null for none.
        interpolation: Interpolation of the doublings: `nearest` or `bilinear`.
    """

    channels: Sequence[int] = (256, 128, 64, 32, 16)
    norm: Norm = "batchnorm"
    attention: str | None = None
    interpolation: Literal["nearest", "bilinear"] = "nearest"

    name: ClassVar[str] = "unet"
    decoder = UNetDecoder

    def needs(self, backbone: str) -> Needs:
        return Needs(choose_strides(self.name, backbone, (2, 4, 8, 16, 32), 2))
