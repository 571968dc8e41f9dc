"""OpenPose (Cao et al., 2017): maps of keypoints and fields along limbs, for all people of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from tasks.pose.architecture import PoseLimits
from tasks.pose.architectures.heatmaps import OfMaps
from tasks.pose.fields import MAX_PEOPLE, read_people
from tasks.pose.loss import field_losses
from tasks.pose.network import DeconvDecoder, FieldOutputs, HeatmapNetwork, StagedHead, flipped_limbs
from tasks.pose.postprocess import PoseCandidates
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton


@dataclass(frozen=True)
class OpenPose(OfMaps):
    """Part affinity fields (Cao et al., 2017) of whole images.

    Attributes:
        stages: Number of stages, the first included.
        stage_width: Channels of the later stages.
        stage_convs: Number of convolutions of each later stage.
        stage_kernel: Side in cells of these convolutions' kernels.
        limb_width: Half the width in cells of a limb's field.
    """

    stages: int = 3
    stage_width: int = 128
    stage_convs: int = 3
    stage_kernel: int = 7
    limb_width: float = 1.0

    whole: ClassVar[bool] = True
    place: ClassVar[str] = "openpose"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("model.openpose", 1, stages=self.stages)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return FieldOutputs

    def build(self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec) -> HeatmapNetwork:
        limbs, flip_indices = skeleton.limbs, skeleton.flip_indices
        if not limbs:
            raise UsageError(f"skeleton {skeleton.name}: openpose needs edges; give it some, or another network")
        vectors = flipped_limbs(limbs, flip_indices)
        decoder = DeconvDecoder(backbone.channels[backbone.strides[-1]], self.width, self.deconvs)
        outputs = len(skeleton) + 2 * len(limbs)
        sizes = self.stages, self.stage_width, self.stage_convs, self.stage_kernel
        head = StagedHead(decoder.channels, outputs, *sizes)
        same = [(number, 1.0) for number in range(len(limbs))]
        network = HeatmapNetwork(backbone, decoder, head, flip_indices, vectors or same, FieldOutputs)
        network.limbs = tuple(limbs)
        return network

    def losses(self, network: Any, outputs: Any, target: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return field_losses(outputs, target, network.limbs, self.cell, self.sigma, self.limb_width)

    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:
        how, most = limits.decoding or self.decoding, limits.max_people or MAX_PEOPLE
        return [
            read_people(maps, fields, network.limbs, self.cell, decoding=how, max_people=most)
            for maps, fields in zip(outputs.heatmaps[:, -1], outputs.fields[:, -1], strict=True)
        ]
