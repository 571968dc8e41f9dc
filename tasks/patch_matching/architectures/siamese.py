"""Siamese and pseudo-siamese networks (Zagoruyko and Komodakis, 2015): a descriptor per patch, and a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from tasks.patch_matching.architecture import PatchArchitecture
from tasks.patch_matching.network import (
    POOL,
    Layer,
    SiameseNetwork,
    comparison,
    convolutions,
    flat_width,
    without_mean,
)
from visionkit.argument_types import at_least
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec


class Branch(nn.Module):
    """Patches without their mean, through the layers of a branch.

    Args:
        channels: Channels of a patch.
        layers: See `convolutions`.
    """

    def __init__(self, channels: int, layers: tuple[Layer, ...]) -> None:
        super().__init__()
        self.layers = convolutions(channels, layers)

    def forward(self, patches: Tensor) -> Tensor:
        described: Tensor = self.layers(without_mean(patches)).flatten(1)
        return described


@dataclass(frozen=True)
class Siamese(PatchArchitecture):
    """siam: C(96,7,3)-ReLU-P(2,2)-C(192,5,1)-ReLU-P(2,2)-C(256,3,1)-ReLU per patch, F(512)-ReLU-F(1) for the pair.

    Attributes:
        filters: Number of filters of the three convolutions.
        hidden: Units of the hidden layer of the decision; the paper has twice the width of a descriptor.
        compare: How descriptors are compared: by the paper's `decision` network, or by their `cosine`, with which they
            can be searched by distance.
    """

    filters: tuple[int, ...] = (96, 192, 256)
    hidden: int = 512
    compare: Literal["decision", "cosine"] = "decision"

    name: ClassVar[str] = "siamese"
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.filters) != 3:
            raise UsageError(f"model.{self.name}.filters {list(self.filters)}: give the filters of three convolutions")
        at_least(f"model.{self.name}", 1, filters=min(self.filters), hidden=self.hidden)

    def build(self, spec: InputSpec) -> SiameseNetwork:
        first, second, third = self.filters
        layers: tuple[Layer, ...] = ((first, 7, 3), POOL, (second, 5, 1), POOL, (third, 3, 1))
        width = flat_width(spec.size, layers, self.name)
        branches = [Branch(spec.channels, layers) for _ in range(1 if self.shared else 2)]
        compare = comparison(self.compare, width, self.hidden, f"model.{self.name}")
        return SiameseNetwork(branches[0], None if self.shared else branches[1], compare)


@dataclass(frozen=True)
class PseudoSiamese(Siamese):
    """pseudo-siam: as siam, with weights of its own for each of the two patches, for views of two types.

    Attributes:
        filters: Number of filters of the three convolutions.
        hidden: Units of the hidden layer of the decision; the paper has twice the width of a descriptor.
        compare: How descriptors are compared: by the paper's `decision` network, or by their `cosine`.
    """

    name: ClassVar[str] = "pseudo_siamese"
    shared: ClassVar[bool] = False
