"""What an architecture of detection or instance segmentation is, and what the two-stage ones have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.errors import UsageError
from visionkit.families.detection.fpn import FPNNeck
from visionkit.families.detection.proposals import RegionProposals
from visionkit.families.detection.select import SelectedBoxes, Thresholds, select_by_softmax
from visionkit.families.detection.two_stage import BoxHead, Pooling, TwoStageNetwork, anchor_sizes, two_stage_outputs
from visionkit.nn.norms import HeadNorm, head_norm
from visionkit.task import VisionTask


@dataclass(frozen=True)
class DetectionArchitecture:
    """One network that finds boxes: its fields are its arguments.

    Attributes:
        strides: Strides of the backbone's maps that are used; finer ones find smaller objects.

    A subclass may also set these:

    - `nms`: overlap from which the worse of two boxes of one class is dropped, unless the task states another.
    - `tile_overlap`: overlap from which objects of two tiles are one, where that is not `nms`.
    - `one_object`: it finds one object per image, so images are not tiled.
    - `public`: names of public weights, which `load_public` loads: `<architecture>:<name>` on the command line.
    """

    strides: Sequence[int] = (8, 16, 32)

    nms: ClassVar[float] = 0.5
    tile_overlap: ClassVar[float | None] = None
    one_object: ClassVar[bool] = False
    public: ClassVar[Collection[str]] = ()

    @classmethod
    def load_public(cls, task: type[VisionTask], name: str) -> VisionTask:
        """A task with public weights of this architecture.

        Args:
            task: Class of the task.
            name: What the user gave; anything but one of `public` is refused.
        """
        raise UsageError(f"{cls.__name__}:{name}: this architecture has no public weights")

    @property
    def maps(self) -> tuple[int, ...]:
        """Strides of the maps that the backbone gives: those of `strides`, unless a head needs further ones."""
        return tuple(self.strides)

    @property
    @abstractmethod
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""

    @abstractmethod
    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        """The network on a backbone with `maps`.

        Args:
            backbone: Gives the maps.
            classes: Number of classes, background not counted.
        """

    @abstractmethod
    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Named terms, already weighted.

        Args:
            network: Network that `build` made.
            outputs: What it returned.
            target: One dict per image with `boxes` and `labels` in input pixels.
        """

    @abstractmethod
    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        """The boxes of each image in input pixels, highest-scoring first."""


@dataclass(frozen=True)
class TwoStage(DetectionArchitecture):
    """R-CNN on a feature pyramid: a first stage that proposes boxes, and heads that process each of them.

    Attributes:
        strides: Strides of the backbone's maps that boxes are cut from; finer ones find smaller objects.
        neck_channels: Channels of every level of the feature pyramid.
        hidden: Width of the box head's two hidden layers, or of the one behind its convolutions.
        convs: Number of convolutions of the box head before its hidden layer; 0 for two hidden layers and none.
        norm: Norm of the convolutions of neck and heads: `none`, as published, or `group`, which trains faster from
            random weights.
        pooling: How boxes are cut out of the maps: `align` (RoIAlign) or `pool` (RoIPool).
        canonical_box_size: Side in input pixels of a box that is cut from the level of stride 16; smaller for small
            images.
        anchor_scale: Side of the anchors in strides of their level.
        pre_nms_top_n: Boxes per level that go into the non-maximum suppression of the proposals.
        post_nms_top_n: Boxes per image that go on to the second stage.
        train_pre_nms_top_n: What `pre_nms_top_n` is in training.
        train_post_nms_top_n: What `post_nms_top_n` is in training.
        rpn_batch_size_per_image: Anchors per image that the first stage is trained on.
        box_batch_size_per_image: Boxes per image that the second stage is trained on.
        aggregate: Best proposals of each other frame of a video that the box head aggregates by their similarity
            (SELSA, Wu et al., 2019); 0 processes frames by themselves. Training needs `input.reference_frames`.
    """

    strides: Sequence[int] = (4, 8, 16, 32)
    neck_channels: int = 256
    hidden: int = 1024
    convs: int = 0
    norm: HeadNorm = "none"
    pooling: Pooling = "align"
    canonical_box_size: float = 224.0
    anchor_scale: float = 8.0
    pre_nms_top_n: int = 1000
    post_nms_top_n: int = 1000
    train_pre_nms_top_n: int = 2000
    train_post_nms_top_n: int = 1000
    rpn_batch_size_per_image: int = 256
    box_batch_size_per_image: int = 512
    aggregate: int = 0

    place: ClassVar[str] = "faster_rcnn"
    """Names the architecture in messages."""

    def __post_init__(self) -> None:
        counts = ("hidden", "pre_nms_top_n", "post_nms_top_n", "train_pre_nms_top_n", "train_post_nms_top_n")
        at_least(f"model.{self.place}", 1, **{name: getattr(self, name) for name in counts})
        at_least(f"model.{self.place}", 0, convs=self.convs, aggregate=self.aggregate)
        head_norm(self.norm)
        for name in ("canonical_box_size", "anchor_scale"):
            if getattr(self, name) <= 0:
                raise UsageError(f"model.{self.place}.{name} {getattr(self, name)}: must be above 0")

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return self.outputs_of(False)

    def outputs_of(self, maps_served: bool) -> type[tuple[Any, ...]]:
        """The type of the outputs, see `two_stage_outputs`.

        Args:
            maps_served: Whether the maps are needed to predict.
        """
        return two_stage_outputs(tuple(sorted(self.strides)), maps_served, self.aggregate > 0)  # type: ignore[no-any-return]

    def build(self, backbone: Backbone, classes: int) -> TwoStageNetwork:
        return self.assemble(backbone, classes)

    def assemble(self, backbone: Backbone, classes: int, roi_head: nn.Module | None = None) -> TwoStageNetwork:
        """Faster R-CNN with one more coarse level for the first stage.

        Args:
            backbone: Gives the pyramid.
            classes: Number of classes.
            roi_head: See `TwoStageNetwork`.
        """
        neck = FPNNeck(backbone.channels, self.neck_channels, "pool", self.norm)
        first = RegionProposals(
            self.neck_channels,
            anchor_sizes(neck.strides, self.anchor_scale),
            candidates=(self.train_pre_nms_top_n, self.pre_nms_top_n),
            kept=(self.train_post_nms_top_n, self.post_nms_top_n),
        )
        second = BoxHead(
            neck.own,
            self.neck_channels,
            classes,
            self.hidden,
            self.pooling,
            self.canonical_box_size,
            self.convs,
            self.norm,
            self.aggregate > 0,
        )
        return TwoStageNetwork(backbone, neck, first, second, roi_head, self.aggregate)

    def select(self, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        """The final boxes of each image of a batch."""
        probabilities = outputs.logits.float().softmax(dim=-1)[..., 1:]
        probabilities = probabilities * (outputs.proposal_scores >= 0)[..., None]  # filling is no prediction
        return [
            select_by_softmax(each, boxes, limits) for each, boxes in zip(probabilities, outputs.boxes, strict=True)
        ]
