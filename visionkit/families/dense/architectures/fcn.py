"""Fully convolutional networks, with learned enlarging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError
from visionkit.families.dense.architectures.base import Decoder, DenseArchitecture, Needs, choose_strides

_FINEST = (4, 8, 16, 32)


class FCNDecoder(Decoder):
    """Scores from several maps, enlarged by learned transposed convolutions.

    A 1x1 convolution turns each map into scores; the coarsest is doubled by a transposed convolution that starts as
    bilinear interpolation, added to the next finer one, and so on; a last one enlarges the sum to the image's size.
    Its map is the output already.
    """

    head = "none"
    stride = 1

    def __init__(self, backbone: Backbone, options: FCN, outputs: int) -> None:
        super().__init__()
        self.channels = outputs
        self.strides = tuple(sorted(backbone.channels, reverse=True))
        deepest, hidden = backbone.channels[self.strides[0]], options.hidden
        self.hidden: nn.Module = nn.Identity()
        if hidden:
            self.hidden = nn.Sequential(
                *(nn.Conv2d(deepest, hidden, 7, padding=3), nn.ReLU(inplace=True), nn.Dropout2d(options.dropout)),
                *(nn.Conv2d(hidden, hidden, 1), nn.ReLU(inplace=True), nn.Dropout2d(options.dropout)),
            )
        inputs = [hidden or deepest, *(backbone.channels[stride] for stride in self.strides[1:])]
        self.scores = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in inputs)
        factors = [coarse // fine for coarse, fine in zip(self.strides, (*self.strides[1:], 1), strict=True)]
        # The last enlarges every score by itself: between all of them its large kernel would have more weights than
        # the backbone.
        self.enlarge = nn.ModuleList(
            enlarging(outputs, factor, mixed=number < len(factors) - 1) for number, factor in enumerate(factors)
        )

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        total: Tensor | None = None
        for number, (stride, score, enlarge) in enumerate(zip(self.strides, self.scores, self.enlarge, strict=True)):
            map_ = features.pyramid[stride]
            scores = score(self.hidden(map_) if number == 0 else map_)
            total = enlarge(scores if total is None else total + scores)
        return cast(Tensor, total)


@dataclass(frozen=True)
class FCN(DenseArchitecture):
    """FCN-8s and its kin (Long et al., 2015): maps of strides `finest` to 32.

    Attributes:
        finest: Stride of the finest map that scores are made from: 8 is FCN-8s, 16 FCN-16s, 32 FCN-32s, and 4 goes one
            step further.
        hidden: Width of the two convolutions (7x7 and 1x1, with dropout) before the coarsest scores, fc6 and fc7 of the
            paper's VGG; 0 has none, since timm's backbones end with features that are deep enough.
        dropout: Dropout probability of those two.
    """

    finest: int = 8
    hidden: int = 0
    dropout: float = 0.5

    name: ClassVar[str] = "fcn"
    decoder = FCNDecoder

    def __post_init__(self) -> None:
        if self.finest not in _FINEST:
            raise UsageError(f"model.fcn.finest {self.finest}: allowed are {', '.join(map(str, _FINEST))}")

    def needs(self, backbone: str) -> Needs:
        wanted = tuple(stride for stride in _FINEST if stride >= self.finest)
        return Needs(choose_strides(self.name, backbone, wanted, len(wanted)))


def enlarging(channels: int, factor: int, mixed: bool = True) -> nn.ConvTranspose2d:
    """A transposed convolution that begins as bilinear enlarging by a whole, even factor.

    Args:
        channels: Number of channels in and out.
        factor: How many times larger the result is.
        mixed: Every output may learn to see every input; otherwise each channel is enlarged by itself.
    """
    if factor < 2 or factor % 2:
        raise UsageError(f"enlarging by {factor}: an even factor is needed")
    layer = nn.ConvTranspose2d(
        channels, channels, 2 * factor, stride=factor, padding=factor // 2, groups=1 if mixed else channels
    )
    ramp = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        each = torch.arange(channels)
        layer.weight[each, each if mixed else 0] = ramp[:, None] * ramp
        assert layer.bias is not None
        layer.bias.zero_()
    return layer
