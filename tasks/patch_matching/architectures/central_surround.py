"""Two streams (Zagoruyko and Komodakis, 2015): the middle of the patches, and all of them at half the resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tasks.patch_matching.architecture import PatchArchitecture
from tasks.patch_matching.network import (
    POOL,
    Layer,
    PatchNetwork,
    PatchOutputs,
    SiameseNetwork,
    center_and_surround,
    comparison,
    convolutions,
    flat_width,
    fully_connected,
    without_mean,
)
from visionkit.argument_types import at_least
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec


class Streams(nn.Module):
    """Two branches with weights of their own, one for the center and one for the surround, side by side.

    Args:
        channels: Channels that each is given.
        layers: Layers of each, see `convolutions`.
    """

    def __init__(self, channels: int, layers: tuple[Layer, ...]) -> None:
        super().__init__()
        self.center, self.surround = (convolutions(channels, layers) for _ in range(2))

    def forward(self, patches: Tensor) -> Tensor:
        center, surround = center_and_surround(without_mean(patches))
        return torch.cat([self.center(center).flatten(1), self.surround(surround).flatten(1)], dim=1)


class TwoChannelStreams(PatchNetwork):
    """Both patches as the channels of one image, in two streams.

    Args:
        channels: Channels of one patch.
        layers: Layers of a stream.
        width: Numbers that both streams give.
        hidden: Units of the hidden fully connected layer.
    """

    def __init__(self, channels: int, layers: tuple[Layer, ...], width: int, hidden: int) -> None:
        super().__init__()
        self.streams = Streams(2 * channels, layers)
        self.decision = nn.Sequential(fully_connected(width, hidden), nn.ReLU(), fully_connected(hidden, 1))

    def forward(self, first: Tensor, second: Tensor) -> PatchOutputs:
        return PatchOutputs(self.decision(self.streams(torch.cat([first, second], dim=1))).squeeze(1))


@dataclass(frozen=True)
class TwoChannelCentralSurround(PatchArchitecture):
    """2ch-2stream: C(96,5,1)-ReLU-P(2,2)-C(96,3,1)-ReLU-P(2,2)-C(192,3,1)-ReLU-C(192,3,1)-ReLU, F(768)-ReLU-F(1).

    Attributes:
        filters: Number of filters of the four convolutions of a stream.
        hidden: Units of the hidden fully connected layer.
    """

    filters: tuple[int, ...] = (96, 96, 192, 192)
    hidden: int = 768

    def __post_init__(self) -> None:
        _check("two_channel_central_surround", self.filters, self.hidden)

    def build(self, spec: InputSpec) -> TwoChannelStreams:
        a, b, c, d = self.filters
        layers: tuple[Layer, ...] = ((a, 5, 1), POOL, (b, 3, 1), POOL, (c, 3, 1), (d, 3, 1))
        width = 2 * flat_width(_half(spec), layers, "two_channel_central_surround")
        return TwoChannelStreams(spec.channels, layers, width, self.hidden)


@dataclass(frozen=True)
class SiameseCentralSurround(PatchArchitecture):
    """siam-2stream: C(96,4,2)-ReLU-P(2,2)-C(192,3,1)-ReLU-C(256,3,1)-ReLU-C(256,3,1)-ReLU, F(512)-ReLU-F(1).

    Attributes:
        filters: Number of filters of the four convolutions of a stream.
        hidden: Units of the hidden layer of the decision.
        compare: How descriptors are compared: by the paper's `decision` network, or by their `cosine`.
    """

    filters: tuple[int, ...] = (96, 192, 256, 256)
    hidden: int = 512
    compare: Literal["decision", "cosine"] = "decision"

    def __post_init__(self) -> None:
        _check("siamese_central_surround", self.filters, self.hidden)

    def build(self, spec: InputSpec) -> SiameseNetwork:
        a, b, c, d = self.filters
        layers: tuple[Layer, ...] = ((a, 4, 2), POOL, (b, 3, 1), (c, 3, 1), (d, 3, 1))
        width = 2 * flat_width(_half(spec), layers, "siamese_central_surround")
        compare = comparison(self.compare, width, self.hidden, "model.siamese_central_surround")
        return SiameseNetwork(Streams(spec.channels, layers), None, compare)


def _half(spec: InputSpec) -> tuple[int, int]:
    if spec.size[0] % 2 or spec.size[1] % 2:
        raise UsageError(f"model.input.size {list(spec.size)}: two streams need even sides")
    return spec.size[0] // 2, spec.size[1] // 2


def _check(name: str, filters: tuple[int, ...], hidden: int) -> None:
    if len(filters) != 4:
        raise UsageError(f"model.{name}.filters {list(filters)}: give the filters of four convolutions")
    at_least(f"model.{name}", 1, filters=min(filters), hidden=hidden)
