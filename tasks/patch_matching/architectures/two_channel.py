"""Two-channel networks (Zagoruyko and Komodakis, 2015): both patches are the channels of one image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from tasks.patch_matching.architecture import PatchArchitecture
from tasks.patch_matching.network import (
    POOL,
    Layer,
    PatchNetwork,
    PatchOutputs,
    convolutions,
    flat_width,
    fully_connected,
    without_mean,
)
from visionkit.argument_types import at_least
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec


class TwoChannelNetwork(PatchNetwork):
    """Convolutions on both patches together, and fully connected layers.

    Args:
        channels: Channels of one patch.
        layers: Convolutions, see `convolutions`.
        widths: Inputs of each fully connected layer; the last one gives the score.
    """

    def __init__(self, channels: int, layers: tuple[Layer, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = convolutions(2 * channels, layers)
        self.decision = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            self.decision.extend([fully_connected(inputs, outputs), nn.ReLU()])
        self.decision.append(fully_connected(widths[-1], 1))

    def forward(self, first: Tensor, second: Tensor) -> PatchOutputs:
        both = without_mean(torch.cat([first, second], dim=1))
        return PatchOutputs(self.decision(self.layers(both).flatten(1)).squeeze(1))


@dataclass(frozen=True)
class TwoChannel(PatchArchitecture):
    """2ch: C(96,7,3)-ReLU-P(2,2)-C(192,5,1)-ReLU-P(2,2)-C(256,3,1)-ReLU-F(256)-ReLU-F(1).

    Attributes:
        filters: Number of filters of the three convolutions.
        hidden: Units of the hidden fully connected layer.
    """

    filters: tuple[int, ...] = (96, 192, 256)
    hidden: int = 256

    def __post_init__(self) -> None:
        if len(self.filters) != 3:
            raise UsageError(f"model.two_channel.filters {list(self.filters)}: give the filters of three convolutions")
        at_least("model.two_channel", 1, filters=min(self.filters), hidden=self.hidden)

    def build(self, spec: InputSpec) -> TwoChannelNetwork:
        first, second, third = self.filters
        layers: tuple[Layer, ...] = ((first, 7, 3), POOL, (second, 5, 1), POOL, (third, 3, 1))
        return TwoChannelNetwork(spec.channels, layers, (flat_width(spec.size, layers, "two_channel"), self.hidden))


@dataclass(frozen=True)
class TwoChannelDeep(PatchArchitecture):
    """2ch-deep: C(96,4,3)-Stack(96)-P(2,2)-Stack(192)-F(1), where Stack(n) is three times C(n,3,1)-ReLU.

    Attributes:
        filters: Number of filters of both stacks; the first convolution has those of the first.
    """

    filters: tuple[int, ...] = (96, 192)

    def __post_init__(self) -> None:
        if len(self.filters) != 2:
            raise UsageError(f"model.two_channel_deep.filters {list(self.filters)}: give the filters of two stacks")
        at_least("model.two_channel_deep", 1, filters=min(self.filters))

    def build(self, spec: InputSpec) -> TwoChannelNetwork:
        first, second = self.filters
        layers: tuple[Layer, ...] = ((first, 4, 3), *((first, 3, 1),) * 3, POOL, *((second, 3, 1),) * 3)
        return TwoChannelNetwork(spec.channels, layers, (flat_width(spec.size, layers, "two_channel_deep"),))
