"""The decoders of segmentation-models-pytorch, fed with the maps of any timm backbone.

The modules, their initialization and their names are theirs, so the number of weights and the output equal those of
their own model. What is ours is which maps they get: by stride, not by position, and none where a backbone has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor

from visionkit.backbones import Backbone, Features, Tap, declared_strides
from visionkit.errors import UsageError
from visionkit.families.dense.decoders.base import Decoder, Needs, choose_strides, is_plain

Norm = Literal["batchnorm", "instancenorm", "identity"]


class UNet(Decoder):
    """U-Net (Ronneberger et al., 2015): each doubling is joined with the backbone's map of that size.

    Args:
        backbone: Backbone with every map from stride 2 to 32 that it has; where one is missing, nothing is joined.
        channels: Number of channels of the doublings, coarsest first; the last five, or as many as there are.
        norm: `batchnorm`, `instancenorm` or `identity`.
        attention: `scse` (Roy et al., 2018) or None.
        interpolation: Interpolation of the doublings: `nearest` or `bilinear`.
    """

    name = "unet"
    head = "3x3"
    stride = 1

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: Sequence[int] = (256, 128, 64, 32, 16),
        norm: Norm = "batchnorm",
        attention: str | None = None,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        have = backbone.channels
        depth = max(have).bit_length() - 1
        if len(channels) < depth:
            raise UsageError(f"decoder unet: channels {list(channels)}: {depth} doublings need as many numbers")
        channels = list(channels)[-depth:]
        self.strides = tuple(2**step for step in range(depth, 0, -1))
        self.decoder = UnetDecoder(
            encoder_channels=[0, *(have.get(stride, 0) for stride in reversed(self.strides))],
            decoder_channels=channels,
            n_blocks=depth,
            use_norm=norm,
            attention_type=attention,
            interpolation_mode=interpolation,
        )
        initialize_decoder(self.decoder)
        self.channels = channels[-1]

    @classmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        return Needs(choose_strides(cls.name, backbone, (2, 4, 8, 16, 32), 2))

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        maps = features.pyramid
        x = self.decoder.center(maps[self.strides[0]])
        for block, stride in zip(self.decoder.blocks, (*self.strides[1:], 1), strict=True):
            # Nothing is joined at full size, nor where the backbone has no map.
            joined = maps.get(stride) if stride > 1 else None
            x = block(x, size[0] // stride, size[1] // stride, joined)
        return cast(Tensor, x)


class FPN(Decoder):
    """Feature pyramid for segmentation (Kirillov et al., 2019, "Panoptic Feature Pyramid Networks").

    Args:
        backbone: Backbone with maps of strides 4, 8, 16, 32.
        pyramid_channels: Number of channels of the pyramid's levels.
        channels: Number of channels of the branch of each level.
        dropout: Dropout probability of whole channels, in [0, 1).
        merge: `add` or `cat` the branches.
    """

    name = "fpn"
    stride = 4

    def __init__(
        self,
        backbone: Backbone,
        *,
        pyramid_channels: int = 256,
        channels: int = 128,
        dropout: float = 0.2,
        merge: Literal["add", "cat"] = "add",
    ) -> None:
        super().__init__()
        if channels % 32 or channels < 64:
            raise UsageError(f"decoder fpn: channels {channels}: multiples of 32 from 64 on, for its 32 group norms")
        self.decoder = FPNDecoder(
            encoder_channels=list(backbone.channels.values()),
            encoder_depth=4,
            pyramid_channels=pyramid_channels,
            segmentation_channels=channels,
            dropout=dropout,
            merge_policy=merge,
        )
        initialize_decoder(self.decoder)
        self.channels = self.decoder.out_channels

    @classmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        return Needs(choose_strides(cls.name, backbone, (4, 8, 16, 32), 4))

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        return cast(Tensor, self.decoder(list(features.pyramid.values())))


class PSPNet(Decoder):
    """Pyramid pooling (Zhao et al., 2017) of one map.

    Args:
        backbone: Backbone with a map of that stride.
        channels: Number of channels of the result.
        dropout: Dropout probability of whole channels, in [0, 1).
        stride: Stride of the map. The paper dilates the deepest stages to 8 (`dilate`); without, it is the network's
            own map of that stride, which is shallow and fast.
        dilate: Dilate the backbone's later stages so that the deepest map has that stride.
        norm: Normalization layers, as in `UNet`.
    """

    name = "pspnet"
    head = "3x3"
    pools = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 512,
        dropout: float = 0.2,
        stride: int = 8,
        dilate: bool = False,
        norm: Norm = "batchnorm",
    ) -> None:
        super().__init__()
        self.stride = stride
        self.decoder = PSPDecoder(
            encoder_channels=[backbone.channels[stride]], use_norm=norm, out_channels=channels, dropout=dropout
        )
        initialize_decoder(self.decoder)
        self.channels = channels

    @classmethod
    def needs(cls, backbone: str, stride: int = 8, dilate: bool = False, **options: Any) -> Needs:
        if dilate:
            return _dilated(backbone, (stride,), stride, "decoder pspnet: leave dilate out")
        return Needs(choose_strides(cls.name, backbone, (stride,), 1))

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        return cast(Tensor, self.decoder([features.pyramid[self.stride]]))


class DeepLabV3Plus(Decoder):
    """DeepLabV3+ (Chen et al., 2018): dilated convolutions of several rates, joined with a finer map.

    Args:
        backbone: Backbone with maps of stride 4 and of `output_stride`.
        channels: Number of channels of the result.
        rates: Dilation rates of the three dilated convolutions.
        output_stride: Output stride of the deepest map: 8 or 16 dilate the backbone's later stages, which not every
            network can; 32 takes it as it is.
        separable: Depthwise separable dilated convolutions.
        dropout: Dropout probability in [0, 1).
    """

    name = "deeplabv3plus"
    stride = 4
    pools = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 256,
        rates: tuple[int, int, int] = (12, 24, 36),
        output_stride: int = 16,
        separable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        have = backbone.channels
        self.output_stride = output_stride
        self.decoder = DeepLabV3PlusDecoder(
            encoder_channels=[0, 0, have[4], have[output_stride]],
            encoder_depth=5,
            out_channels=channels,
            atrous_rates=tuple(rates),
            output_stride=16,  # only of its enlarging, which is ours below
            aspp_separable=separable,
            aspp_dropout=dropout,
        )
        self.channels = channels

    @classmethod
    def needs(cls, backbone: str, output_stride: int = 16, **options: Any) -> Needs:
        if output_stride not in (8, 16, 32):
            raise UsageError(f"decoder {cls.name}: output_stride {output_stride}: allowed are 8, 16, 32")
        if output_stride == 32:
            return Needs(choose_strides(cls.name, backbone, (4, 32), 2))
        return _dilated(backbone, (4, output_stride), output_stride, "decoder deeplabv3plus: give it output_stride 32")

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        fine = self.decoder.block1(features.pyramid[4])
        x = self.decoder.aspp(features.pyramid[self.output_stride])
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return cast(Tensor, self.decoder.block2(torch.cat([x, fine], dim=1)))


class UPerNet(Decoder):
    """UPerNet (Xiao et al., 2018): pyramid pooling on top of a feature pyramid, all levels fused.

    Args:
        backbone: Backbone with maps of strides 4, 8, 16, 32.
        channels: Number of channels of every level and of the result.
        norm: Normalization layers, as in `UNet`.
    """

    name = "upernet"
    stride = 4
    pools = True

    def __init__(self, backbone: Backbone, *, channels: int = 256, norm: Norm = "batchnorm") -> None:
        super().__init__()
        self.decoder = UPerNetDecoder(
            encoder_channels=[0, 0, *backbone.channels.values()],
            encoder_depth=5,
            decoder_channels=channels,
            use_norm=norm,
        )
        initialize_decoder(self.decoder)
        self.channels = channels

    @classmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        return Needs(choose_strides(cls.name, backbone, (4, 8, 16, 32), 4))

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        maps: list[Tensor | None] = [None, None, *features.pyramid.values()]  # it skips two finer ones
        return cast(Tensor, self.decoder(maps))


class SegFormer(Decoder):
    """The all-MLP decoder of SegFormer (Xie et al., 2021): every map projected, enlarged and fused.

    Args:
        backbone: Backbone with at least two of the maps from stride 2 to 32; all are used.
        channels: Number of channels of the projections and of the result.
    """

    name = "segformer"
    stride = 4

    def __init__(self, backbone: Backbone, *, channels: int = 256) -> None:
        super().__init__()
        self.decoder = SegformerDecoder(
            encoder_channels=[3, *backbone.channels.values()], encoder_depth=5, segmentation_channels=channels
        )
        initialize_decoder(self.decoder)
        self.channels = channels

    @classmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        return Needs(choose_strides(cls.name, backbone, (2, 4, 8, 16, 32), 2))

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


class DPT(Decoder):
    """Dense prediction transformer (Ranftl et al., 2021): maps from several depths, fused coarse to fine.

    A plain transformer is tapped at four depths and its class token joined; a network with a pyramid gives its maps of
    strides 4 to 32, as the hybrid of the paper does.

    Args:
        backbone: Tapped four times, or with maps of strides 4, 8, 16, 32.
        channels: Number of channels of the fused maps and of the result.
        intermediate_channels: Number of channels of the four maps before they are fused.
        readout: What becomes of the class token: `cat`, `add` or `ignore`.
    """

    name = "dpt"
    head = "dpt"
    stride = 2

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 256,
        intermediate_channels: Sequence[int] = (256, 512, 1024, 1024),
        readout: Literal["cat", "add", "ignore"] = "cat",
    ) -> None:
        super().__init__()
        if len(intermediate_channels) != 4:
            raise UsageError(f"decoder dpt: intermediate_channels {list(intermediate_channels)}: four are needed")
        strides: Sequence[int] = (4, 8, 16, 32)
        widths: Sequence[int] = list(backbone.channels.values())
        if backbone.taps:
            own = declared_strides(backbone.name)[0]
            # What is not a power of two counts as 16: its grid is quadrupled, doubled, kept and halved all the same.
            own = own if own & (own - 1) == 0 else 16
            strides, widths = (own,) * 4, backbone.tap_channels
        self.decoder = DPTDecoder(
            encoder_out_channels=widths,
            encoder_output_strides=strides,
            encoder_has_prefix_tokens=backbone.has_class_token if backbone.taps else False,
            readout=readout if backbone.taps and backbone.has_class_token else "ignore",
            intermediate_channels=list(intermediate_channels),
            fusion_channels=channels,
        )
        initialize_decoder(self.decoder)
        self.channels = channels

    @classmethod
    def needs(cls, backbone: str, **options: Any) -> Needs:
        declared = declared_strides(backbone)
        if is_plain(declared) and len(declared) >= 4:
            return Needs(taps=4)
        return Needs(choose_strides(cls.name, backbone, (4, 8, 16, 32), 4))

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        taps = [Tap(map_, None) for map_ in features.pyramid.values()] or features.final
        return cast(Tensor, self.decoder([tap.map for tap in taps], [tap.tokens for tap in taps]))


def _dilated(backbone: str, strides: tuple[int, ...], output_stride: int, remedy: str) -> Needs:
    if is_plain(declared_strides(backbone)):
        return Needs(strides)  # its pyramid has every stride
    try:
        declared = declared_strides(backbone, output_stride)
    except UsageError as error:
        raise UsageError(f"{remedy}, or another backbone: {error}") from error
    missing = [stride for stride in strides if stride not in declared]
    if missing:
        raise UsageError(
            f"{remedy}, or another backbone: backbone {backbone!r} dilated to {output_stride} has maps of stride "
            f"{', '.join(map(str, sorted(set(declared))))}"
        )
    return Needs(strides, output_stride)
