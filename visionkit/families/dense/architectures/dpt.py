"""Dense prediction transformer (Ranftl et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.dpt import decoder as smp
from torch import Tensor

from visionkit.backbones import Backbone, Features, Tap, declared_strides
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, choose_strides, is_plain


class DPTDecoder(Decoder):
    """Maps from several depths, fused coarse to fine."""

    head = "dpt"
    stride = 2

    def __init__(self, backbone: Backbone, options: DPT, outputs: int) -> None:
        super().__init__()
        strides: Sequence[int] = (4, 8, 16, 32)
        widths: Sequence[int] = list(backbone.channels.values())
        if backbone.taps:
            own = declared_strides(backbone.name)[0]
            # What is not a power of two counts as 16: its grid is quadrupled, doubled, kept and halved all the same.
            own = own if own & (own - 1) == 0 else 16
            strides, widths = (own,) * 4, backbone.tap_channels
        self.decoder = smp.DPTDecoder(
            encoder_out_channels=widths,
            encoder_output_strides=strides,
            encoder_has_prefix_tokens=backbone.has_class_token if backbone.taps else False,
            readout=options.readout if backbone.taps and backbone.has_class_token else "ignore",
            intermediate_channels=list(options.intermediate_channels),
            fusion_channels=options.channels,
        )
        initialize_decoder(self.decoder)
        self.channels = options.channels

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        taps = [Tap(map_, None) for map_ in features.pyramid.values()] or features.final
        return cast(Tensor, self.decoder([tap.map for tap in taps], [tap.tokens for tap in taps]))


@dataclass(frozen=True)
class DPT(DenseArchitecture):
    """DPT (Ranftl et al., 2021).

    A plain transformer is tapped at four depths and its class token joined; a network with a pyramid gives its maps of
    strides 4 to 32, as the hybrid of the paper does.

    Attributes:
        channels: Number of channels of the fused maps and of the result.
        intermediate_channels: Number of channels of the four maps before they are fused.
        readout: What becomes of the class token: `cat`, `add` or `ignore`.
    """

    channels: int = 256
    intermediate_channels: Sequence[int] = (256, 512, 1024, 1024)
    readout: Literal["cat", "add", "ignore"] = "cat"

    name: ClassVar[str] = "dpt"
    decoder = DPTDecoder

    def __post_init__(self) -> None:
        if len(self.intermediate_channels) != 4:
            raise UsageError(
                f"model.dpt.intermediate_channels {list(self.intermediate_channels)}: four numbers are needed"
            )

    def needs(self, backbone: str) -> Needs:
        declared = declared_strides(backbone)
        if is_plain(declared) and len(declared) >= 4:
            return Needs(taps=4)
        return Needs(choose_strides(self.name, backbone, (4, 8, 16, 32), 4))
