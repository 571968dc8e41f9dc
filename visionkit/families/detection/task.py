"""The base of tasks that predict boxes: how predictions are selected, brought back to file pixels and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone, backbone_facts
from visionkit.engines import TorchEngine
from visionkit.errors import UsageError
from visionkit.families.detection.analysis import DetectionAnalysis
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.coco_eval import detection_tables
from visionkit.families.detection.public import load_public
from visionkit.families.detection.reference_session import ReferenceSession
from visionkit.families.detection.select import Thresholds
from visionkit.families.detection.views import DetectorViews, checked_scales, checked_tile
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.nn.norms import Norm, set_batch_norm
from visionkit.predictions import Prediction
from visionkit.predictor import Predictor
from visionkit.run_report.charts import Bars, Chart, Curves
from visionkit.session import Session
from visionkit.task import VisionTask
from visionkit.tiling import Located, MergeObjects, Plan, Views, ViewsOf
from visionkit.types import Batch
from visionkit.wording import counted


class PublicSchemes:
    """torchvision's detectors, and the architectures that have public weights of their own."""

    def __get__(self, task: object, kind: type[DetectorTask]) -> tuple[str, ...]:
        registry: Mapping[str, type[DetectionArchitecture]] = getattr(kind, "architectures", {})
        return ("torchvision", *(name for name, each in registry.items() if each.public))


class DetectorTask(ArchitectureTask, BackboneTask):
    """Base of detection and instance segmentation.

    A subclass names its `architectures` and sets `metrics`.

    Args:
        backbone_norm: Batch norms of the backbone: `batch` (trained), `frozen` (as public detectors were trained) or
            `group` (for small batches).
        norm_eps: For `frozen`, what is added to the variance, where it is not the backbone's own.
        score_threshold: Lowest score of a detection that is returned; what is shown is chosen later, by eye.
        nms_threshold: IoU threshold of non-maximum suppression: of two boxes of one class that overlap by more, the
            worse is dropped; by default as published.
        max_detections: Maximum number of objects per image; with `tile`, of the whole and of each tile.
        tile: Images larger than this many pixels per side are also processed in overlapping tiles of it, in use and in
            evaluation; 0 is off.
        flip_tta: In use and in evaluation, also process the flipped image and fuse both; takes twice as long.
        tta_scales: In use and in evaluation, also process the image at these multiples of the input size, such as
            [0.75, 1.25], and fuse all.
        **shared: See `ArchitectureTask` and `BackboneTask`. The input is by default the whole image, its ratio kept, in
            512x512.

    Attributes:
        limits: How predictions are selected where a call does not override it.
        views: Which views of an image are processed where a call does not override it.
    """

    public_schemes = PublicSchemes()

    architecture: DetectionArchitecture
    limits: Thresholds
    network: Any

    def __init__(
        self,
        backbone: str,
        *,
        architecture: str,
        backbone_norm: Norm = "batch",
        norm_eps: float | None = None,
        score_threshold: float = 0.05,
        nms_threshold: float | None = None,
        max_detections: int = 100,
        tile: int = 0,
        flip_tta: bool = False,
        tta_scales: Sequence[float] = (),
        **shared: Any,
    ) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        chosen = self.architecture
        if not self.classes:
            raise UsageError("model.classes: at least one class is needed; give data.classes or let the data name them")
        self.views = DetectorViews(checked_tile(tile), flip_tta, checked_scales(tta_scales))
        if chosen.one_object:
            max_detections = 1  # a property of the network, so the protocol and the model card shall state this
            if tile:
                raise UsageError(f"model.tile {tile}: {architecture} finds one object per image and uses no tiles")
            if flip_tta or tta_scales:
                raise UsageError(f"model.flip_tta, tta_scales: {architecture} finds one object; leave them out")
        nms = chosen.nms if nms_threshold is None else nms_threshold
        self.limits = Thresholds().given(score_threshold, nms, max_detections)
        body = Backbone(backbone, strides=chosen.maps, use_final=False, **self.backbone_arguments)
        body.model = set_batch_norm(body.model, backbone_norm, norm_eps)
        self.network = chosen.build(body, len(self.classes))
        self.outputs = chosen.outputs  # type: ignore[misc]
        if (references := max(map(self.input.reference_count, (True, False)))) and not self._aggregates:
            raise UsageError(
                f"model.input.reference_frames {references}: {architecture} aggregates no frames; set "
                "model.faster_rcnn.aggregate, or leave it out"
            )
        self.normalize = Normalize(body.mean, body.std)
        self._check_views(self.views, "model.")

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        return self.architecture.losses(self.network, outputs, target)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> VisionTask:
        """A detector with COCO weights, such as `torchvision:fcos_resnet50_fpn` or `dfine:s`.

        Raises:
            UsageError: There is none of that name for this task.
            EnvironmentFault: The weights are not in the cache and cannot be brought.
        """
        if scheme in cls.architectures:
            kind: type[DetectionArchitecture] = cls.architectures[scheme]
            return kind.load_public(cls, name)
        return load_public(cls, scheme, name)

    @classmethod
    def default_input(cls, backbone: str = "resnet50", **init_args: Any) -> InputSpec:
        """Whole images, their ratio kept, in a square of 512 pixels or of the one size that the backbone has."""
        facts = backbone_facts(backbone)
        return InputSpec(size=facts.train_size if facts.fixed_input_size else (512, 512), resize_mode="letterbox")

    @property
    def counted(self) -> int:
        """Objects of an image and class that are measured: COCO's 100, and more where the task predicts more."""
        return max(100, self.limits.detections)

    @property
    def protocol(self) -> str:
        limits = self.limits
        return (
            f"COCO AP and AR over IoU .50:.05:.95, 101 recall points, at most {self.counted} objects per image and "
            "class, crowds left out, small, medium and large by the annotation's area in file pixels; predictions from "
            f"score {limits.score:g} on, NMS {limits.nms:g}, at most {limits.detections} per image"
            + self.views.protocol()
            + self._reference_protocol()
        )

    def _reference_protocol(self) -> str:
        count = self.input.references_in_use if self._aggregates else 0
        if not count:
            return ""
        spread, stride = self.input.references == "sequence", self.input.frame_stride
        where = "spread over its sequence" if spread else f"before it, {stride} apart" if stride > 1 else "before it"
        return f"; each frame with {counted(count, 'frame')} {where}"

    @property
    def has_state(self) -> bool:
        """A network that aggregates processes a frame with those before it."""
        return self._aggregates > 0

    @property
    def _aggregates(self) -> int:
        return getattr(self.architecture, "aggregate", 0)

    def session(self, predictor: Predictor, **options: Any) -> Session:
        """Frames of a video, with a queue of reference proposals where the network aggregates them."""
        # An exported graph has no inputs for them and processes each frame by itself.
        kind = ReferenceSession if self._aggregates and isinstance(predictor.engine, TorchEngine) else Session
        return kind(predictor, **options)

    @property
    def tile(self) -> int:
        """Side of the tiles that large images are also processed in, in file pixels; 0 is off."""
        return self.views.tile

    def has_tta(self) -> str:
        used = {"tile": self.views.tile, "flip_tta": self.views.flip, "tta_scales": self.views.scales}
        return next((name for name, value in used.items() if value), "")

    def _check_views(self, views: DetectorViews, prefix: str = "") -> None:
        """Refuses test-time augmentation that the network or its input cannot take."""
        if self._aggregates and views != DetectorViews():
            raise UsageError(
                f"{prefix}tile, flip_tta, tta_scales: a network that aggregates frames takes whole ones alone"
            )
        if len(views.passes) > 1 and self.input.resize_mode == "crop":
            name = "flip_tta" if views.flip else "tta_scales"
            raise UsageError(f"{prefix}{name}: needs whole images; input.resize_mode crop shows the center alone")
        if views.scales and (reason := self.one_size()):
            raise UsageError(f"{prefix}tta_scales: {reason}; leave it out")

    def one_size(self) -> str:
        name = self.network.backbone.name
        return f"{name} takes inputs of one size alone" if backbone_facts(name).fixed_input_size else ""

    def plan(
        self,
        image: ImageSource,
        *,
        views: Views | None = None,
        found: Located | None = None,
        tile: int | None = None,
        flip_tta: bool | None = None,
        tta_scales: Sequence[float] | None = None,
        **options: Any,
    ) -> Plan:
        """The whole image, tiles of a large one, and both again for test-time augmentation; every object once.

        Args:
            image: See `VisionTask.plan`.
            views: See `VisionTask.plan`.
            found: See `VisionTask.plan`.
            tile: Tile that replaces the task's own.
            flip_tta: Whether the flipped image is processed too, in place of the task's own choice.
            tta_scales: Scales that replace the task's own.
            **options: See `VisionTask.plan`.
        """
        chosen = self.views.given(tile, flip_tta, tta_scales)
        self._check_views(chosen)
        further = chosen(image.size)
        if views is not None or found is not None or not further:
            return super().plan(image, views=views, found=found)
        return Plan((None, *further), MergeObjects(partial(self._merged, views=chosen, size=image.size, **options)))

    def _merged(
        self,
        parts: Sequence[Prediction],
        *,
        views: DetectorViews,
        size: tuple[int, int],
        nms_threshold: float | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        **options: Any,
    ) -> Prediction:
        overlap = nms_threshold
        if overlap is None:
            own = self.architecture.tile_overlap
            overlap = self.limits.nms if own is None else min(own, self.limits.nms)
        score = self.limits.score if score_threshold is None else score_threshold
        most = max_detections
        if most is None:  # a large image in tiles has as many objects as are found
            most = 0 if views.tile else self.limits.detections
        return views.merge(parts, size, overlap, score, most)

    def evaluation_views(self) -> ViewsOf | None:
        return self.views if self.views != DetectorViews() else None

    def merge_views(self, parts: Sequence[Prediction], size: tuple[int, int]) -> Prediction:
        return self._merged(parts, views=self.views, size=size)

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        return detection_tables(computed, self.classes)

    def charts(self) -> dict[str, Chart]:
        kind = "mask" if "mask" in self.monitor[0] else "box"
        return {"precision-recall": Curves("recall", "precision at IoU .50"), "per class": Bars("class", f"{kind} AP")}

    def measure(self, decoded: Any, batch: Batch) -> None:
        """Measures the predictions as they are served, in file pixels."""
        places = list(zip(batch["sequence"], batch["frame"], strict=True)) if any(batch.get("sequence", ())) else None
        self.metrics.update(self.predictions(decoded, batch), batch["target"], places=places)

    def analysis(self) -> Analysis:
        measured: Any = next(iter(self.metrics.values()))
        return DetectionAnalysis(self.classes, measured.masks, measured.most)
