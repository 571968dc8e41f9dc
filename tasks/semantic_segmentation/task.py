"""Semantic segmentation: which class does every pixel belong to?"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.semantic_segmentation.loss import Balance, SegmentationLoss
from tasks.semantic_segmentation.metrics import build_metrics, class_table
from tasks.semantic_segmentation.network import SegmentationNetwork, SegmentationOutputs
from tasks.semantic_segmentation.postprocess import at_input_size, to_predictions
from visionkit.analysis.base import Analysis
from visionkit.architecture_task import ArchitectureTask
from visionkit.architectures import Architectures
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import backbone_facts
from visionkit.confusion import LARGEST_TABLE, confusion_table
from visionkit.errors import UsageError
from visionkit.families.dense.architectures import DenseArchitecture
from visionkit.families.dense.label_analysis import LabelAnalysis
from visionkit.families.dense.label_maps import best, labels_in_input
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.nn.normalize import Normalize
from visionkit.predictions import LabelMap, Prediction
from visionkit.run_report.charts import Bars, Chart
from visionkit.tiling import BlendMap, Located, Overlap, Plan, Views, architecture_reach, choose_overlap
from visionkit.types import IGNORE, Batch

log = logging.getLogger(__name__)


class SemanticSegmentationTask(ArchitectureTask, BackboneTask):
    """Gives every pixel a class.

    Args:
        architecture: `unet`, `fpn`, `pspnet`, `deeplabv3plus`, `upernet`, `segformer`, `dpt` or `fcn`.
        losses: Weight of each loss by name: `cross_entropy`, `dice`, `jaccard`, `tversky`, `focal`, `lovasz`.
        loss_options: Arguments of each loss by its name: `{focal: {gamma: 2}}`.
        class_balance: Class weights from the frequencies that training has seen: `median`, `log` or `none`.
        class_weights: Fixed weights, one per class, in their place.
        reflect_padding: Extend the image by reflect padding of so many pixels on every side, as U-Net does at borders.
        tile: With resize mode `native`, images of more pixels than a square of this side are processed in overlapping
            tiles of it; 0 processes every image whole.
        dropout: Dropout probability before the last convolution.
        **shared: See `BackboneTask`; each architecture has its arguments under its name. The input is by default the
            whole image in 512x512; with resize mode `native` every image keeps its size.

    Example:
        >>> task = SemanticSegmentationTask("resnet18", architecture="fpn", classes=["road", "sky"])
        >>> task(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).logits.shape
        torch.Size([1, 2, 16, 24])
    """

    name = "semantic_segmentation"
    title = "Segmentation"
    question = "Which class does every pixel belong to?"
    kinds = ("label_map",)
    monitor = ("val/mean_iou", "max")
    targets = ("label_map",)
    outputs = SegmentationOutputs
    architectures = Architectures[DenseArchitecture]("semantic_segmentation")

    network: SegmentationNetwork

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        architecture: str = "unet",
        losses: dict[str, float] | None = None,
        loss_options: dict[str, dict[str, Any]] | None = None,
        class_balance: Balance = "none",
        class_weights: Sequence[float] | None = None,
        reflect_padding: int = 0,
        tile: int = 1024,
        dropout: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, architecture=architecture, **shared)
        if not self.classes:
            raise UsageError("model.classes: at least one class is needed; give data.classes or let the data name them")
        self.network = SegmentationNetwork.build(
            backbone,
            self.architecture,
            len(self.classes),
            dropout=dropout,
            full_size=False,
            reflect_padding=reflect_padding,
            **self.backbone_arguments,
        )
        spec = self.input
        if spec.resize_mode == "native" and spec.divisor % self.network.divisor:
            raise UsageError(
                f"model.input.divisor {spec.divisor}: backbone {backbone!r} needs sides that are multiples of "
                f"{self.network.divisor}; give that or a multiple of it"
            )
        body = self.network.backbone
        self.normalize = Normalize(body.mean, body.std)
        self.loss = SegmentationLoss(
            len(self.classes), losses or {"cross_entropy": 1.0}, loss_options, class_balance, class_weights
        )
        self.metrics = build_metrics(len(self.classes))
        if tile < 0 or 0 < tile < 2 * self.network.divisor:
            raise UsageError(f"model.tile {tile}: give 0, or a side of at least {2 * self.network.divisor} pixels")
        self.tile = -(-tile // self.network.divisor) * self.network.divisor
        self._overlap: Overlap | None = None
        self._blank = torch.zeros((), dtype=torch.long)

    @classmethod
    def default_input(cls, backbone: str = "resnet18", pretrained: bool = False, **init_args: Any) -> InputSpec:
        """The whole image in 512x512, or in the size that the backbone is built for."""
        facts = backbone_facts(backbone, pretrained)
        size = facts.train_size if facts.fixed_input_size else (512, 512)
        return InputSpec(size=size, resize_mode="letterbox", interpolation=facts.interpolation)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and len(self.classes) < 2:
            raise UsageError(
                f"one class alone ({self.classes[0]!r}) leaves nothing to distinguish; name what the other pixels are "
                f"too: --data.classes '[background, {self.classes[0]}]', with COCO json --data.background background"
            )

    def losses(self, outputs: SegmentationOutputs, target: Any) -> dict[str, Tensor]:
        labels = target["label_map"]
        logits = at_input_size(outputs.logits, (labels.shape[-2], labels.shape[-1]), self.network.stride)
        terms: dict[str, Tensor] = self.loss(logits, labels, target.get("pixel_weight"))
        return terms

    def train_batch(self, batch: Batch) -> Batch:
        """Counts classes and images without a label, on the device."""
        labels = batch["target"]["label_map"]
        self.loss.count(labels)
        self._blank = self._blank.to(labels.device) + (labels == IGNORE).flatten(1).all(dim=1).sum()
        return batch

    def on_train_epoch_end(self) -> None:
        """States how many images contributed nothing to training."""
        blank = int(self._blank)
        self._blank = torch.zeros_like(self._blank)
        if blank:
            log.warning(
                "%d images of this epoch had nothing but ignored pixels and contributed nothing to training", blank
            )

    def decode(self, outputs: SegmentationOutputs) -> Tensor:
        """(B, K, h, w) float logits, on the decoder's grid."""
        logits = outputs.logits
        return logits if logits.dtype == torch.float32 else logits.float()

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, geometry, self.classes, self.network.stride))

    def has_tta(self) -> str:
        return "reflect_padding" if self.network.reflect_padding else ""

    def plan(
        self, image: ImageSource, *, views: Views | None = None, found: Located | None = None, **options: Any
    ) -> Plan:
        """Tiles of a large image that is shown at its own size; they overlap by what the network sees."""
        height, width = image.size
        small = self.input.resize_mode != "native" or not self.tile or height * width <= self.tile**2
        if small or views is not None or found is not None:
            return super().plan(image, views=views, found=found)
        align = self.network.divisor
        if self._overlap is None:
            reach = architecture_reach(self.network, self.input.channels, align)
            self._overlap = Overlap(self.tile, *choose_overlap(self.tile, align, reach), align)

        def values(logits: Tensor) -> Tensor:
            stride = self.network.stride
            return at_input_size(logits, (logits.shape[-2] * stride, logits.shape[-1] * stride), stride)[0]

        def predict(labels: Tensor) -> Prediction:
            return LabelMap(self.classes, labels.numpy().astype(np.uint8 if len(self.classes) <= 255 else np.uint16))

        tiles = BlendMap((height, width), self._overlap, len(self.classes), values, best, predict)
        return Plan(tiles.views, tiles)

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        truth = batch["target"]["label_map"]
        stride = self.network.stride
        canvas = (decoded.shape[-2] * stride, decoded.shape[-1] * stride)
        self.metrics.update(labels_in_input(decoded, (truth.shape[-2], truth.shape[-1]), canvas), truth)

    def analysis(self) -> Analysis:
        return LabelAnalysis(self.classes)

    def charts(self) -> dict[str, Chart]:
        return {"per class": Bars("class", "iou")}

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        size = (
            "the size of the file"
            if self.input.resize_mode == "native"
            else f"{self.input.resize_mode} to {height}x{width}"
        )
        return (
            f"mean IoU and Dice over the classes that occur, from one confusion matrix of the whole split at {size}, "
            f"{IGNORE} ignored; boundary F1 within 0.75 % of the diagonal"
        )

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        confusion = computed["confusion"].view(len(self.classes), -1)  # of one class, torchmetrics makes it a number
        tables = {"per class": class_table(confusion, computed["boundary"], self.classes)}
        if len(self.classes) <= LARGEST_TABLE:
            tables["confusion"] = confusion_table(confusion, self.classes)
        return tables
