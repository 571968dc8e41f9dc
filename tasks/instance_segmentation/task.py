"""Instance segmentation: which objects does the picture show, and which pixels are each one's?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from tasks.instance_segmentation.loss import mask_rcnn_losses
from tasks.instance_segmentation.network import MaskHead
from tasks.instance_segmentation.postprocess import FoundMasks, to_predictions
from visionkit.coco_eval import DetectionMetrics
from visionkit.detection.public import load_public
from visionkit.detection.select import Thresholds, check_share
from visionkit.detection.task import RCNN, DetectorTask, build_backbone, build_two_stage, checked_tile, select_two_stage
from visionkit.detection.two_stage import TwoStageNetwork, two_stage_outputs
from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm
from visionkit.optim import OptimConfig
from visionkit.predictions import Prediction
from visionkit.task import VisionTask


class InstanceSegmentationTask(DetectorTask):
    """Finds objects and outlines them: Mask R-CNN (He et al., 2017) on any backbone.

    Args:
        backbone: Any timm backbone by name, or one of the classic networks (`visionkit models PATTERN` lists them).
        classes: Class names in label order.
        pretrained: Start from timm's public weights; wants the network or a filled cache.
        input: Size and fit.
        strides: Maps of the backbone that boxes are cut from; finer ones for small objects.
        width: Channels of the levels.
        backbone_norm: `batch` (alive), `frozen` (as public detectors were trained) or `group` (for small batches).
        norm_eps: For `frozen`, what is added to the variance, where it is not the backbone's own.
        rcnn: Both stages; `rcnn.pooling` switches between RoIAlign and RoIPool.
        mask_hidden: Channels of the mask head.
        masks_drawn: Boxes of a batch that masks are learnt from, at most.
        score_threshold: Lowest score that is answered. What is shown of the answers is chosen later, by eye.
        nms_threshold: Of two boxes of one class that overlap by more, the worse is dropped.
        max_detections: Objects a picture, at most.
        tile: Pictures larger than this many pixels a side are also looked at in overlapping windows of it; 0 is off.
        mask_threshold: A pixel belongs to an object above it.
        drop_path: Stochastic depth of the backbone, where its family has it.
        optim: How the weights are learnt.
        compile_network: See `VisionTask`.
        channels_last: See `VisionTask`.

    Example:
        >>> task = InstanceSegmentationTask("resnet18", classes=["cat", "dog"], width=64)
        >>> task(torch.zeros(1, 3, 256, 256, dtype=torch.uint8)).proposals.shape[2]
        4
    """

    name = "instance_segmentation"
    title = "Instances"
    question = "Which pixels belong to each thing? A mask for every one."
    kinds = ("instances",)
    monitor = ("val/mask_ap", "max")
    targets = ("boxes", "labels", "masks")
    outputs = two_stage_outputs((4, 8, 16, 32), True)
    public_schemes = ("torchvision",)

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        classes: Sequence[str] = (),
        pretrained: bool = False,
        input: InputSpec | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        width: int = 256,
        backbone_norm: Norm = "batch",
        norm_eps: float | None = None,
        rcnn: RCNN | None = None,
        mask_hidden: int = 256,
        masks_drawn: int = 256,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        tile: int = 0,
        mask_threshold: float = 0.5,
        drop_path: float = 0.0,
        optim: OptimConfig | None = None,
        compile_network: bool = False,
        channels_last: bool = True,
    ) -> None:
        spec = InputSpec.of(input, self.default_input(backbone))
        super().__init__(
            input=spec, classes=classes, optim=optim, compile_network=compile_network, channels_last=channels_last
        )
        if not self.classes:
            raise UsageError("model.classes: at least one class is needed; give data.classes or let the data name them")
        self.rcnn, self.masks_drawn, self.tile = rcnn or RCNN(), masks_drawn, checked_tile(tile)
        self.limits = Thresholds().given(score_threshold, nms_threshold, max_detections)
        self.mask_threshold = check_share("mask_threshold", mask_threshold)
        body = build_backbone(
            backbone,
            spec,
            tuple(strides),
            pretrained=pretrained,
            norm=backbone_norm,
            eps=norm_eps,
            drop_path=drop_path,
        )
        settings = self.rcnn
        masks = MaskHead(
            body.strides, width, len(self.classes), mask_hidden, settings.pooling, settings.canonical, settings.norm
        )
        self.network: TwoStageNetwork = build_two_stage(body, len(self.classes), width, settings, masks)
        self.outputs = self.network.outputs  # type: ignore[misc]
        self.normalize = Normalize(body.mean, body.std)
        self.metrics = MetricCollection(
            {"instances": DetectionMetrics(len(self.classes), masks=True, most=self.counted)}
        )

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """One of torchvision's detectors with its COCO weights, such as `torchvision:maskrcnn_resnet50_fpn`.

        Raises:
            UsageError: torchvision has none of that name for this task.
            EnvironmentFault: The weights are not in the cache and cannot be brought.
        """
        return load_public(cls, scheme, name)

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        if "masks" not in target[0]:
            raise UsageError(
                f"the data gives {', '.join(target[0])}, and instance segmentation learns from masks; say "
                "--data.target masks"
            )
        return mask_rcnn_losses(self.network, outputs, target, self.rcnn, self.masks_drawn, self.training)

    def decode(
        self,
        outputs: Any,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
        mask_threshold: float | None = None,
        *,
        second: Callable[..., Tensor] | None = None,
    ) -> list[FoundMasks]:
        """Boxes and small masks in input pixels, best first.

        Args:
            outputs: Of the network.
            score_threshold: In place of the task's own.
            nms_threshold: In place of the task's own.
            max_detections: In place of the task's own.
            mask_threshold: In place of the task's own.
            second: The engine of the second stage, in place of the network's own.
        """
        limits = self.limits.given(score_threshold, nms_threshold, max_detections)
        threshold = self.mask_threshold if mask_threshold is None else check_share("mask_threshold", mask_threshold)
        found = select_two_stage(outputs, limits)
        rois = torch.cat(
            [torch.cat([torch.full_like(each.boxes[:, :1], k), each.boxes], 1) for k, each in enumerate(found)]
        )
        labels = torch.cat([each.labels for each in found])
        logits = (second or self.second_stage())(*self.network.maps_of(outputs), rois)
        # Of the K masks of a box only that of its class is wanted: the others need no exponential.
        side = logits.shape[-1]
        masks = logits.gather(1, labels[:, None, None, None].expand(-1, 1, side, side))[:, 0].float().sigmoid()
        parts = masks.split([len(each.boxes) for each in found])
        return [FoundMasks(*each, part, threshold) for each, part in zip(found, parts, strict=True)]

    def second_stage(self) -> Any:
        return self.network.second_stage()

    def restore(self, decoded: Sequence[FoundMasks], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.classes))
