"""What an architecture of pose estimation is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from tasks.pose.postprocess import PoseCandidates
from visionkit.backbones import Backbone
from visionkit.families.keypoints.heatmaps import Decoding
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton


class PoseLimits(NamedTuple):
    """What a call to `decode` chooses.

    Attributes:
        decoding: Decoding that replaces the architecture's own, where it reads peaks.
        max_people: Maximum number of people of a whole image; None as the architecture has it.
        second: The engine of the second stage, in place of the network's own.
    """

    decoding: Decoding | None
    max_people: int | None
    second: Callable[..., Tensor] | None = None


class PoseArchitecture:
    """One network that finds keypoints: a frozen dataclass whose fields are its arguments.

    Attributes:
        whole: It processes whole images; otherwise one person per crop.
        flips: Its results for a flipped image can be flipped back.
    """

    whole: ClassVar[bool] = False
    flips: ClassVar[bool] = True

    @property
    @abstractmethod
    def maps(self) -> tuple[int, ...]:
        """Strides of the backbone's maps that are used."""

    @property
    def cell(self) -> float:
        """Pixels between two cells of its own maps, of which the flip test needs whole ones; 0 where it has none."""
        return 0.0

    @property
    def reading(self) -> str:
        """How keypoints are read, for the protocol."""
        return "direct"

    @property
    @abstractmethod
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""

    @abstractmethod
    def build(self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec) -> Any:
        """The network on a backbone with `maps`, for the keypoints of a skeleton and images of one type."""

    @abstractmethod
    def losses(self, network: Any, outputs: Any, target: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Named terms, already weighted; `target` has one dict per image with `keypoints` in input pixels."""

    @abstractmethod
    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:
        """The people of each image or crop in input pixels."""
