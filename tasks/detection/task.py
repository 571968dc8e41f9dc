"""Object detection: which objects does the image show, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchmetrics import MetricCollection

from tasks.detection.architectures.fcos import FCOSOutputs
from tasks.detection.postprocess import to_predictions
from visionkit.architectures import Architectures
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.coco_eval import DetectionMetrics
from visionkit.families.detection.select import SelectedBoxes
from visionkit.families.detection.task import DetectorTask
from visionkit.geometry import Geometry
from visionkit.predictions import Prediction


class DetectionTask(DetectorTask):
    """Finds objects: a box, a class and a score for each.

    Args:
        architecture: `fcos` (Tian et al., 2019), `retinanet` (Lin et al., 2017), `ssd` (Liu et al., 2016),
            `faster_rcnn` (Ren et al., 2015), `rtdetr` (Lv et al., 2024), `dfine` (Peng et al., 2024), or `localizer`
            for images of one object: its class and its box.
        **shared: See `DetectorTask`.

    Example:
        >>> task = DetectionTask("resnet18", classes=["cat", "dog"], fcos={"neck_channels": 64, "convs": 2})
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
    architectures = Architectures[DetectionArchitecture]("detection")

    def __init__(self, backbone: str = "resnet50", *, architecture: str = "fcos", **shared: Any) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        self.metrics = MetricCollection({"detections": DetectionMetrics(len(self.classes), most=self.counted)})

    def decode(
        self,
        outputs: Any,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> list[SelectedBoxes]:
        """Boxes in input pixels, best first.

        Args:
            outputs: Outputs of the network.
            score_threshold: Score threshold that replaces the task's own.
            nms_threshold: NMS threshold that replaces the task's own.
            max_detections: Number of objects that replaces the task's own.
        """
        limits = self.limits.given(score_threshold, nms_threshold, max_detections)
        return self.architecture.decode(self.network, outputs, limits)

    def restore(self, decoded: Sequence[SelectedBoxes], geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.classes))
