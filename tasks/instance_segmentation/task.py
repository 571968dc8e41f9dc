"""Instance segmentation: which objects does the image show, and which pixels are each one's?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from tasks.instance_segmentation.architecture import MaskArchitecture
from tasks.instance_segmentation.postprocess import FoundMasks, to_predictions
from visionkit.architectures import Architectures
from visionkit.errors import UsageError
from visionkit.families.detection.coco_eval import DetectionMetrics
from visionkit.families.detection.select import check_fraction
from visionkit.families.detection.task import DetectorTask
from visionkit.families.detection.two_stage import two_stage_outputs
from visionkit.geometry import Geometry
from visionkit.predictions import Prediction


class InstanceSegmentationTask(DetectorTask):
    """Finds objects and outlines them.

    Args:
        architecture: `mask_rcnn` (He et al., 2017), `rtdetr` (Lv et al., 2024) or `dfine` (Peng et al., 2024); the last
            two have masks of queries (Li et al., 2023).
        mask_threshold: Probability above which a pixel belongs to an object.
        **shared: See `DetectorTask`.

    Example:
        >>> task = InstanceSegmentationTask("resnet18", classes=["cat", "dog"], mask_rcnn={"neck_channels": 64})
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
    architectures = Architectures[MaskArchitecture]("instance_segmentation")

    architecture: MaskArchitecture

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        architecture: str = "mask_rcnn",
        mask_threshold: float = 0.5,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        self.mask_threshold = check_fraction("mask_threshold", mask_threshold)
        self.metrics = MetricCollection(
            {"instances": DetectionMetrics(len(self.classes), masks=True, most=self.counted)}
        )

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        if "masks" not in target[0]:
            raise UsageError(
                f"the data gives {', '.join(target[0])}, and instance segmentation trains on masks; state "
                "--data.target masks"
            )
        return super().losses(outputs, target)

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
            outputs: Outputs of the network.
            score_threshold: Score threshold that replaces the task's own.
            nms_threshold: NMS threshold that replaces the task's own.
            max_detections: Number of objects that replaces the task's own.
            mask_threshold: Mask threshold that replaces the task's own.
            second: For `mask_rcnn`, the engine of the second stage in place of the network's own.
        """
        limits = self.limits.given(score_threshold, nms_threshold, max_detections)
        threshold = self.mask_threshold if mask_threshold is None else check_fraction("mask_threshold", mask_threshold)
        return self.architecture.decode(self.network, outputs, limits, threshold, second)

    def second_stage(self) -> Any:
        return self.network.second_stage() if hasattr(self.network, "second_stage") else None

    def restore(self, decoded: Sequence[FoundMasks], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.classes))
