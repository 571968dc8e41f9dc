"""What every network of stereo states of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from tasks.stereo.loss import smooth_l1
from visionkit.geometry import InputSpec


class StereoOutputs(NamedTuple):
    """Raw outputs of networks that state disparity themselves.

    Attributes:
        disparity: (B, h, w) float32 pixels of the input.
        earlier: For the loss alone, in training: the same of the stages before, first to last.
    """

    disparity: Tensor
    earlier: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class StereoArchitecture:
    """One network of stereo: a frozen dataclass whose fields are its arguments.

    Attributes:
        max_disparity: Largest disparity that it can state, in pixels of its input.
        divisor: Both sides of an input are multiples of it.
        outputs: The NamedTuple that the network returns.
    """

    max_disparity: int = 192

    divisor: ClassVar[int] = 16
    outputs: ClassVar[type[tuple[Any, ...]]] = StereoOutputs

    def build(self, backbone: None, spec: InputSpec) -> nn.Module:
        """The network with its first weights.

        Args:
            backbone: None; networks on a backbone build it.
            spec: Input of the task.
        """
        raise NotImplementedError

    def stored(self) -> Self:
        """What a checkpoint keeps of it: nothing is fetched again when it is opened."""
        return self

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Named terms, already weighted."""
        return smooth_l1([*outputs.earlier, outputs.disparity], target, self.max_disparity)

    def decode(self, network: Any, outputs: Any) -> Tensor:
        """(B, h, w) float32 disparity in pixels of the input."""
        disparity: Tensor = outputs.disparity.float()
        return disparity
