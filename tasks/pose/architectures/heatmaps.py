"""One map per keypoint for the one person of a crop, in one stage or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from tasks.pose.architecture import PoseArchitecture, PoseLimits
from tasks.pose.loss import heatmap_losses, offset_losses, single_people
from tasks.pose.network import DeconvDecoder, HeatmapNetwork, HeatmapOutputs, OffsetOutputs, StagedHead
from tasks.pose.postprocess import PoseCandidates, people_of_maps, people_of_offsets
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.families.keypoints.heatmaps import Decoding, Encoding
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton


@dataclass(frozen=True)
class OfMaps(PoseArchitecture):
    """What networks of maps have in common.

    Attributes:
        stride: Stride in pixels of the backbone's map that is used; what is coarser is cut off.
        deconvs: Number of transposed convolutions on it, each of which doubles the map.
        width: Channels of each transposed convolution.
        sigma: Standard deviation in cells of the Gaussians that the maps are trained on.
        decoding: How a Gaussian's peak is read: `dark` (unbiased), `quarter` or `argmax`.
    """

    stride: int = 32
    deconvs: int = 3
    width: int = 256
    sigma: float = 2.0
    decoding: Decoding = "dark"

    place: ClassVar[str]
    """Names the architecture in messages."""

    def __post_init__(self) -> None:
        at_least(f"model.{self.place}", 0, deconvs=self.deconvs)
        at_least(f"model.{self.place}", 0.5, sigma=self.sigma)

    @property
    def maps(self) -> tuple[int, ...]:
        return (self.stride,)

    @property
    def cell(self) -> float:
        return self.stride / (1 << self.deconvs)

    @property
    def reading(self) -> str:
        return self.decoding


@dataclass(frozen=True)
class SimpleBaseline(OfMaps):
    """SimpleBaseline (Xiao et al., 2018): a decoder of transposed convolutions and one 1x1 convolution.

    Attributes:
        encoding: What the maps are trained on: `gaussian`, or `udp` (discs and offsets; Huang et al., 2020), where a
            disc has the radius 1.75 `sigma`.
    """

    encoding: Encoding = "gaussian"

    place: ClassVar[str] = "simple_baseline"

    @property
    def reading(self) -> str:
        return "udp" if self.encoding == "udp" else self.decoding

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return OffsetOutputs if self.encoding == "udp" else HeatmapOutputs

    def head(self, channels: int, outputs: int) -> StagedHead:
        """Maps from the decoder's features."""
        return StagedHead(channels, outputs)

    def build(self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec) -> HeatmapNetwork:
        vectors = [(number, 1.0) for number in skeleton.flip_indices] if self.encoding == "udp" else []
        decoder = DeconvDecoder(backbone.channels[backbone.strides[-1]], self.width, self.deconvs)
        head = self.head(decoder.channels, len(skeleton) + 2 * len(vectors))
        return HeatmapNetwork(backbone, decoder, head, skeleton.flip_indices, vectors, OffsetOutputs)

    def losses(self, network: Any, outputs: Any, target: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        people = single_people(target, network.keypoints, outputs[0].device)
        of_maps = offset_losses if self.encoding == "udp" else heatmap_losses
        return of_maps(outputs, people, self.cell, self.sigma)

    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:
        if self.encoding == "udp":
            return people_of_offsets(outputs, self.cell, self.sigma)
        return people_of_maps(outputs, self.cell, limits.decoding or self.decoding)


@dataclass(frozen=True)
class ConvolutionalPoseMachine(SimpleBaseline):
    """Convolutional Pose Machine (Wei et al., 2016): further stages that see the maps before and refine them.

    Attributes:
        stages: Number of stages, the first included.
        stage_width: Channels of the later stages.
        stage_convs: Number of convolutions of each later stage.
        stage_kernel: Side in cells of these convolutions' kernels.
    """

    stages: int = 3
    stage_width: int = 128
    stage_convs: int = 3
    stage_kernel: int = 7

    place: ClassVar[str] = "cpm"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("model.cpm", 1, stages=self.stages)

    def head(self, channels: int, outputs: int) -> StagedHead:
        return StagedHead(channels, outputs, self.stages, self.stage_width, self.stage_convs, self.stage_kernel)
