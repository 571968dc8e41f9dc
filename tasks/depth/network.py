"""A dense network whose prediction is depth: bounded meters, or relative nearness."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Features
from visionkit.families.dense.architectures import DenseArchitecture
from visionkit.families.dense.network import DenseNetwork

Output = Literal["sigmoid", "bins"]


class DepthOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        depth: (B, h, w) float32 meters; of a relative network inverse depth, at least 0, up to a scale and a shift.
    """

    depth: Tensor


class Bounded(nn.Module):
    """One channel to meters between two bounds, evenly in the logarithm: a sigmoid.

    Args:
        low: Meters.
        high: Meters.
    """

    channels = 1

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.start, self.span = math.log(low), math.log(high / low)

    def forward(self, raw: Tensor) -> Tensor:
        return (self.start + self.span * raw[:, 0].float().sigmoid()).exp()


class Bins(nn.Module):
    """A fraction for each of several depths, whose mean is the prediction (soft classification, Li et al., 2018).

    The centers stand evenly in the logarithm (spacing-increasing, Fu et al., 2018).

    Args:
        low: Meters.
        high: Meters.
        count: Number of bins.
    """

    centers: Tensor

    def __init__(self, low: float, high: float, count: int) -> None:
        super().__init__()
        self.channels = count
        edges = torch.linspace(math.log(low), math.log(high), count + 1)
        self.register_buffer("centers", ((edges[1:] + edges[:-1]) / 2).exp(), persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        return (raw.float().softmax(dim=1) * self.centers.view(1, -1, 1, 1)).sum(dim=1)


class Nearness(nn.Module):
    """One channel to inverse depth that is never negative, of no unit."""

    channels = 1

    def forward(self, raw: Tensor) -> Tensor:
        return F.softplus(raw[:, 0].float())


class DepthNetwork(DenseNetwork):
    """A dense network with depth at every pixel of its input."""

    prediction: nn.Module

    @classmethod
    def with_output_layer(
        cls, backbone: str, architecture: DenseArchitecture, prediction: Bounded | Bins | Nearness, **options: Any
    ) -> DepthNetwork:
        """Builds the network; see `DenseNetwork.build` for the options."""
        network = cls.build(backbone, architecture, prediction.channels, **options)
        assert isinstance(network, DepthNetwork)
        network.prediction = prediction
        # Begin in the middle of the range: from a decoder without normalization (FPN) the first steps would carry a
        # sigmoid to its end, where it has no gradient and stays.
        for last in [layer for layer in network.head.modules() if isinstance(layer, nn.Conv2d)][-1:]:
            with torch.no_grad():
                last.weight.mul_(0.1)
        return network

    def read(self, features: Features, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Any:
        """The decoder's half, to `DepthOutputs`."""
        return DepthOutputs(self.prediction(super().read(features, seen, size)))
