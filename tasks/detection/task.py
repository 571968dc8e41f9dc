"""Object detection: which objects does the picture show, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

from torch import Tensor
from torchmetrics import MetricCollection

from tasks.detection.loss import fcos_losses, localizer_losses, retinanet_losses, ssd_losses
from tasks.detection.network import (
    FCOSNetwork,
    FCOSOutputs,
    LocalizerNetwork,
    RetinaNetNetwork,
    SSDNetwork,
)
from tasks.detection.postprocess import to_predictions
from visionkit.backbones import Backbone
from visionkit.coco_eval import DetectionMetrics
from visionkit.detection.boxes import gather_objects
from visionkit.detection.heads import HeadNorm
from visionkit.detection.public import load_public
from visionkit.detection.select import Found, Thresholds, select_by_class, select_by_sigmoid
from visionkit.detection.task import RCNN, DetectorTask, build_backbone, build_two_stage, checked_tile, select_two_stage
from visionkit.detection.two_stage import TwoStageNetwork
from visionkit.detection.two_stage_loss import two_stage_losses
from visionkit.errors import UsageError, suggest
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.fpn import Extra
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm
from visionkit.optim import OptimConfig
from visionkit.predictions import Prediction
from visionkit.task import VisionTask

Architecture = Literal["fcos", "retinanet", "ssd", "faster_rcnn", "localizer"]

STRIDES: dict[str, tuple[int, ...]] = {
    "fcos": (8, 16, 32),
    "retinanet": (8, 16, 32),
    "ssd": (8, 16, 32),
    "faster_rcnn": (4, 8, 16, 32),
    "localizer": (16, 32),
}
"""Of the backbone's maps, where none are asked for."""

NMS = {"fcos": 0.6, "retinanet": 0.5, "ssd": 0.45, "faster_rcnn": 0.5, "localizer": 1.0}
"""Overlap from which the worse of two boxes is dropped, as published; the localiser has one box."""


class DetectionTask(DetectorTask):
    """Finds objects: a box, a class and a score for each.

    Args:
        backbone: Any timm backbone by name, or one of the classic networks (`visionkit models PATTERN` lists them).
        architecture: `fcos` (Tian et al., 2019), `retinanet` (Lin et al., 2017), `ssd` (Liu et al., 2016),
            `faster_rcnn` (Ren et al., 2015), or `localizer` for pictures of one object: its class and its box
            (of the settings below it has `strides`, `width` and those of the backbone).
        classes: Class names in label order.
        pretrained: Start from timm's public weights; wants the network or a filled cache.
        input: Size and fit.
        strides: Maps of the backbone that are used; finer ones for small objects. By default 8, 16, 32, for
            `faster_rcnn` 4, 8, 16, 32, for `localizer` 16, 32.
        extra: Coarser levels on top, for `fcos` and `retinanet`: `conv` two, `pool` one, or `none`.
        levels: For `ssd`, the number of maps.
        width: Channels of the levels.
        convs: For `fcos` and `retinanet`, convolutions of each tower of the head.
        head_norm: For `fcos` and `retinanet`: `group`, or `none` as RetinaNet was published.
        backbone_norm: `batch` (alive), `frozen` (as public detectors were trained) or `group` (for small batches).
        norm_eps: For `frozen`, what is added to the variance, where it is not the backbone's own.
        anchor_scale: For `retinanet`, the smallest anchor's side in strides.
        rcnn: For `faster_rcnn`, its two stages.
        published: For `ssd`, the SSD300 that was published: VGG-16 with strides 8 and 16, pictures of 300x300.
        score_threshold: Lowest score that is answered. What is shown of the answers is chosen later, by eye.
        nms_threshold: Of two boxes of one class that overlap by more, the worse is dropped; by default as published.
        max_detections: Boxes a picture, at most; with `tile`, of the whole and of each window.
        tile: Pictures larger than this many pixels a side are also looked at in overlapping windows of it; 0 is off.
        candidates: Boxes that go into the suppression, at most: of a level, or of a class for `ssd`.
        drop_path: Stochastic depth of the backbone, where its family has it.
        optim: How the weights are learnt.
        compile_network: See `VisionTask`.
        channels_last: See `VisionTask`.

    Example:
        >>> task = DetectionTask("resnet18", classes=["cat", "dog"], width=64, convs=2)
        >>> task(torch.zeros(1, 3, 256, 256, dtype=torch.uint8)).logits.shape
        torch.Size([1, 1364, 2])
    """

    name = "detection"
    title = "Detection"
    question = "Which things are in the image, and where? A box around each."
    kinds = ("detections",)
    monitor = ("val/box_ap", "max")
    targets = ("boxes", "labels")
    outputs = FCOSOutputs
    public_schemes = ("torchvision",)

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        architecture: Architecture = "fcos",
        classes: Sequence[str] = (),
        pretrained: bool = False,
        input: InputSpec | None = None,
        strides: Sequence[int] | None = None,
        extra: Extra = "conv",
        levels: int = 6,
        width: int = 256,
        convs: int = 4,
        head_norm: HeadNorm = "group",
        backbone_norm: Norm = "batch",
        norm_eps: float | None = None,
        anchor_scale: float = 4.0,
        rcnn: RCNN | None = None,
        published: bool = False,
        score_threshold: float = 0.05,
        nms_threshold: float | None = None,
        max_detections: int = 100,
        tile: int = 0,
        candidates: int = 1000,
        drop_path: float = 0.0,
        optim: OptimConfig | None = None,
        compile_network: bool = False,
        channels_last: bool = True,
    ) -> None:
        if architecture not in get_args(Architecture):
            allowed = get_args(Architecture)
            raise UsageError(
                f"model.architecture {architecture!r}: allowed are {', '.join(allowed)}{suggest(architecture, allowed)}"
            )
        spec = InputSpec.of(input, self.default_input(backbone))
        super().__init__(
            input=spec, classes=classes, optim=optim, compile_network=compile_network, channels_last=channels_last
        )
        if architecture == "localizer":
            max_detections = 1  # a property of the network, so the protocol and the card shall say so
            if tile:
                raise UsageError(f"model.tile {tile}: architecture localizer answers one object a picture, not windows")
        if not self.classes:
            raise UsageError("model.classes: at least one class is needed; give data.classes or let the data name them")
        self.architecture, self.rcnn, self.tile = architecture, rcnn or RCNN(), checked_tile(tile)
        self.limits = Thresholds(candidates=candidates).given(
            score_threshold, NMS[architecture] if nms_threshold is None else nms_threshold, max_detections
        )
        body = build_backbone(
            backbone,
            spec,
            tuple(strides or STRIDES[architecture]),
            pretrained=pretrained,
            norm=backbone_norm,
            eps=norm_eps,
            drop_path=drop_path,
        )
        network = self._build(body, width, extra, levels, convs, head_norm, anchor_scale, published)
        self.network = network
        self.outputs = network.outputs  # type: ignore[misc]
        self.normalize = Normalize(body.mean, body.std)
        self.metrics = MetricCollection({"detections": DetectionMetrics(len(self.classes), most=self.counted)})

    def _build(
        self,
        body: Backbone,
        width: int,
        extra: Extra,
        levels: int,
        convs: int,
        norm: HeadNorm,
        anchor_scale: float,
        published: bool,
    ) -> Any:
        count = len(self.classes)
        if self.architecture == "fcos":
            return FCOSNetwork(body, count, width=width, extra=extra, convs=convs, norm=norm)
        if self.architecture == "retinanet":
            return RetinaNetNetwork(
                body, count, width=width, extra=extra, convs=convs, norm=norm, anchor_scale=anchor_scale
            )
        if self.architecture == "ssd":
            return SSDNetwork(body, count, width=width, levels=levels, published=published)
        if self.architecture == "localizer":
            return LocalizerNetwork(body, count, width=width)
        return build_two_stage(body, count, width, self.rcnn)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """One of torchvision's detectors with its COCO weights, such as `torchvision:fcos_resnet50_fpn`.

        Raises:
            UsageError: torchvision has none of that name for this task.
            EnvironmentFault: The weights are not in the cache and cannot be brought.
        """
        return load_public(cls, scheme, name)

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        objects = gather_objects(target, outputs.logits.device)
        if self.architecture == "fcos":
            return fcos_losses(outputs, objects)
        if self.architecture == "retinanet":
            return retinanet_losses(outputs, objects)
        if self.architecture == "ssd":
            return ssd_losses(outputs, objects)
        if self.architecture == "localizer":
            return localizer_losses(outputs, objects)
        drawn = {"anchors": self.rcnn.anchors_drawn, "boxes": self.rcnn.boxes_drawn}
        return two_stage_losses(cast(TwoStageNetwork, self.network), outputs, objects, training=self.training, **drawn)[
            0
        ]

    def decode(
        self,
        outputs: Any,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[Found]:
        """Boxes in input pixels, best first.

        Args:
            outputs: Of the network.
            score_threshold: In place of the task's own.
            nms_threshold: In place of the task's own.
            max_detections: In place of the task's own.
        """
        limits = self.limits.given(score_threshold, nms_threshold, max_detections)
        if self.architecture == "faster_rcnn":
            return select_two_stage(outputs, limits)
        if self.architecture in ("ssd", "localizer"):
            if self.architecture == "localizer":
                limits = limits._replace(detections=1)
            probabilities = outputs.logits.float().softmax(dim=-1)[..., 1:]
            return [select_by_class(p, boxes, limits) for p, boxes in zip(probabilities, outputs.boxes, strict=True)]
        counts = outputs.counts.tolist()
        found = []
        for k, boxes in enumerate(outputs.boxes):
            centerness = outputs.centerness[k] if self.architecture == "fcos" else None
            found.append(select_by_sigmoid(outputs.logits[k], boxes, counts, limits, centerness))
        return found

    def restore(self, decoded: Sequence[Found], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.classes))
