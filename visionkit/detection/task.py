"""The base of tasks that answer boxes: how answers are chosen, brought back to file pixels and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from visionkit.backbones import Backbone, backbone_facts
from visionkit.coco_eval import detection_tables
from visionkit.detection.proposals import RegionProposals
from visionkit.detection.select import Found, Thresholds, select_by_softmax
from visionkit.detection.two_stage import BoxHead, Pooling, TwoStageNetwork, anchor_sizes
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.nn.fpn import FPNNeck
from visionkit.nn.norms import HeadNorm, Norm, head_norm, set_batch_norm
from visionkit.run_report.charts import Bars, Chart, Curves
from visionkit.task import VisionTask
from visionkit.tiling import Located, MergeObjects, Plan, Views, merge_tiles, object_tiles
from visionkit.types import Batch


@dataclass(frozen=True)
class RCNN:
    """What the two-stage network has beyond the one-stage ones.

    Attributes:
        hidden: Width of the box head's two hidden layers, or of the one behind its convolutions.
        convs: Convolutions of the box head; 0 for none.
        norm: Of the convolutions of neck and heads: `none`, as published, or `group`, which learns faster from random
            weights.
        pooling: `align` (RoIAlign) or `pool` (RoIPool).
        canonical: A box of this side, in input pixels, is cut from the level of stride 16; smaller for small pictures.
        anchor_scale: Side of the anchors, in strides of their level.
        candidates: Boxes of each level that go into the proposals' suppression.
        proposals: Boxes of a picture that go on to the second stage.
        train_candidates: `candidates` in training.
        train_proposals: `proposals` in training.
        anchors_drawn: Anchors a picture that the first stage learns from.
        boxes_drawn: Boxes a picture that the second stage learns from.
    """

    hidden: int = 1024
    convs: int = 0
    norm: HeadNorm = "none"
    pooling: Pooling = "align"
    canonical: float = 224.0
    anchor_scale: float = 8.0
    candidates: int = 1000
    proposals: int = 1000
    train_candidates: int = 2000
    train_proposals: int = 1000
    anchors_drawn: int = 256
    boxes_drawn: int = 512

    def __post_init__(self) -> None:
        for name in ("hidden", "candidates", "proposals", "train_candidates", "train_proposals"):
            if getattr(self, name) < 1:
                raise UsageError(f"rcnn.{name} {getattr(self, name)}: must be at least 1")
        if self.convs < 0:
            raise UsageError(f"rcnn.convs {self.convs}: must be 0 or more")
        head_norm(self.norm)
        if self.canonical <= 0 or self.anchor_scale <= 0:
            raise UsageError(f"rcnn.canonical {self.canonical} and anchor_scale {self.anchor_scale} must be above 0")


def build_backbone(
    name: str,
    spec: InputSpec,
    strides: Sequence[int],
    *,
    pretrained: bool,
    norm: Norm,
    eps: float | None,
    drop_path: float,
) -> Backbone:
    """A backbone as detectors want it: no final features, its batch norms as asked."""
    body = Backbone(
        name,
        pretrained=pretrained,
        in_chans=spec.channels,
        strides=strides,
        image_size=spec.size if spec.fit != "native" else None,
        drop_path_rate=drop_path,
        use_final=False,
    )
    body.model = set_batch_norm(body.model, norm, eps)
    return body


def build_two_stage(
    backbone: Backbone, classes: int, width: int, settings: RCNN, roi_head: Any = None
) -> TwoStageNetwork:
    """Faster R-CNN on a feature pyramid, with one more coarse level for the first stage.

    Args:
        backbone: Gives the pyramid.
        classes: K.
        width: Channels of the levels.
        settings: Of both stages.
        roi_head: See `TwoStageNetwork`.
    """
    neck = FPNNeck(backbone.channels, width, "pool", settings.norm)
    first = RegionProposals(
        width,
        anchor_sizes(neck.strides, settings.anchor_scale),
        candidates=(settings.train_candidates, settings.candidates),
        kept=(settings.train_proposals, settings.proposals),
    )
    second = BoxHead(
        neck.own,
        width,
        classes,
        settings.hidden,
        settings.pooling,
        settings.canonical,
        settings.convs,
        settings.norm,
    )
    return TwoStageNetwork(backbone, neck, first, second, roi_head)


def select_two_stage(outputs: Any, limits: Thresholds) -> list[Found]:
    """The final boxes of each picture of a batch."""
    probabilities = outputs.logits.float().softmax(dim=-1)[..., 1:]
    probabilities = probabilities * (outputs.proposal_scores >= 0)[..., None]  # filling is no answer
    return [select_by_softmax(each, boxes, limits) for each, boxes in zip(probabilities, outputs.boxes, strict=True)]


def checked_tile(tile: int) -> int:
    """The side of the windows.

    Raises:
        UsageError: Below 0, or too small to hold anything.
    """
    if tile < 0 or 0 < tile < 64:
        raise UsageError(f"model.tile {tile}: give 0 for none, or a side of at least 64 pixels")
    return tile


class DetectorTask(VisionTask):
    """Base of detection and instance segmentation.

    A subclass builds `network` and sets `limits`.

    Attributes:
        limits: How answers are chosen where a call does not say otherwise.
        tile: Side of the windows that large pictures are also looked at in, in file pixels; 0 is off.
    """

    limits: Thresholds
    tile: int = 0

    @classmethod
    def default_input(cls, backbone: str = "resnet50", **init_args: Any) -> InputSpec:
        """Whole pictures, their ratio kept, in a square of 512 pixels or of the one size that the backbone has."""
        facts = backbone_facts(backbone)
        return InputSpec(size=facts.train_size if facts.fixed_input_size else (512, 512), fit="letterbox")

    @property
    def counted(self) -> int:
        """Objects of a picture and class that are measured: COCO's 100, and more where the task answers more."""
        return max(100, self.limits.detections)

    @property
    def protocol(self) -> str:
        limits = self.limits
        return (
            f"COCO AP and AR over IoU .50:.05:.95, 101 recall points, at most {self.counted} objects a picture and "
            "class, crowds left out, small, medium and large by the annotation's area in file pixels; answers from "
            f"score {limits.score:g} on, NMS {limits.nms:g}, at most {limits.detections} a picture"
            + ("; measured on whole pictures, without the windows that `tile` adds in prediction" if self.tile else "")
        )

    def plan(
        self,
        image: ImageSource,
        *,
        views: Views | None = None,
        found: Located | None = None,
        tile: int | None = None,
        **options: Any,
    ) -> Plan:
        """The whole image, and tiles of a large one; objects of all of them, each once.

        Args:
            image: See `VisionTask.plan`.
            views: See `VisionTask.plan`.
            found: See `VisionTask.plan`.
            tile: In place of the task's own.
            **options: See `VisionTask.plan`.
        """
        tiles = object_tiles(image.size, self.tile if tile is None else checked_tile(tile))
        if views is not None or found is not None or not tiles:
            return super().plan(image, views=views, found=found)
        overlap, most = options.get("nms_threshold"), options.get("max_detections")
        overlap = self.limits.nms if overlap is None else overlap
        return Plan((None, *tiles), MergeObjects(partial(merge_tiles, views=tiles, overlap=overlap, most=most or 0)))

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        return detection_tables(computed, self.classes)

    def charts(self) -> dict[str, Chart]:
        kind = "mask" if "mask" in self.monitor[0] else "box"
        return {"precision-recall": Curves("recall", "precision at IoU .50"), "per class": Bars("class", f"{kind} AP")}

    def measure(self, decoded: Any, batch: Batch) -> None:
        """Measures the predictions as they are served, in file pixels."""
        self.metrics.update(self.restore(decoded, batch["geometry"]), batch["target"])
