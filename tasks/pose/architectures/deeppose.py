"""DeepPose (Toshev and Szegedy, 2014): places regressed from the whole map, and refined in later stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tasks.pose.architecture import PoseArchitecture, PoseLimits
from tasks.pose.loss import place_losses, single_people
from tasks.pose.network import PlaceNetwork, PlaceOutputs
from tasks.pose.postprocess import PoseCandidates, people_of_places
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton


@dataclass(frozen=True)
class DeepPose(PoseArchitecture):
    """DeepPose (Toshev and Szegedy, 2014).

    Attributes:
        stride: Stride in pixels of the backbone's map that the first stage reads.
        width: Half the width of the hidden layer.
        stages: Number of stages, the first included.
    """

    stride: int = 32
    width: int = 256
    stages: int = 1

    def __post_init__(self) -> None:
        at_least("model.deeppose", 1, stages=self.stages, width=self.width)

    @property
    def maps(self) -> tuple[int, ...]:
        return (self.stride, min(8, self.stride)) if self.stages > 1 else (self.stride,)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return PlaceOutputs

    def build(self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec) -> PlaceNetwork:
        if spec.resize_mode == "native":
            raise UsageError("model.input.resize_mode native: deeppose needs one size; choose stretch or letterbox")
        return PlaceNetwork(backbone, spec.size, len(skeleton), skeleton.flip_indices, self.stages, 2 * self.width)

    def losses(self, network: Any, outputs: Any, target: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return place_losses(outputs, single_people(target, network.keypoints, outputs[0].device), network.size)

    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:
        return people_of_places(outputs, network.size)
