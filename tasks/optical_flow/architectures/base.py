"""What every network of optical flow states of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from tasks.optical_flow.network import FlowOutputs


@dataclass(frozen=True)
class FlowArchitecture(ABC):
    """One network of optical flow: its fields are its arguments.

    Attributes:
        divisor: Both sides of an input are multiples of it.
    """

    divisor: ClassVar[int] = 64

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""
        return FlowOutputs

    @abstractmethod
    def build(self, backbone: None, channels: int) -> nn.Module:
        """The network with its first weights, for images of a number of channels."""

    @abstractmethod
    def losses(self, network: Any, outputs: FlowOutputs, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Named terms, already weighted.

        Args:
            network: The network.
            outputs: What it returned.
            truth: (B, 2, h, w) true motion in pixels of the input.
            known: (B, h, w) bool, where it is known.
        """

    def stored(self) -> Self:
        """What a checkpoint keeps of it: nothing is fetched again when it is opened."""
        return self
