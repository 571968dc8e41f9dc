"""Classification: which of these classes does the image show?"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tasks.classification.loss import ClassificationLoss
from tasks.classification.metrics import build_metrics, class_table
from tasks.classification.network import ClassificationHead, ClassificationNetwork, ClassificationOutputs
from tasks.classification.postprocess import probabilities, to_predictions
from tasks.classification.precision_recall import precision_recall_table
from visionkit.analysis.base import Analysis
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone, backbone_facts
from visionkit.confusion import LARGEST_TABLE, confusion_table, largest_confusions
from visionkit.errors import UsageError
from visionkit.families.classification.analysis import ClassificationAnalysis
from visionkit.geometry import Geometry, InputSpec
from visionkit.input_spec import Interpolation
from visionkit.nn.normalize import Normalize
from visionkit.plain_values import plain
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Chart, Curves
from visionkit.types import Batch
from visionkit.uncertainty.conformal import ConformalConfig

log = logging.getLogger(__name__)


class ClassificationTask(BackboneTask):
    """Classifies whole images, one label each or several.

    Args:
        multilabel: Each class is judged by itself and several may hold.
        threshold: For `multilabel`, the probability from which a class holds.
        label_smoothing: Label smoothing in [0, 1).
        class_weights: One weight per class, against imbalance.
        mixup: Alpha of mixup (Zhang et al., 2018); 0 is off.
        cutmix: Alpha of CutMix (Yun et al., 2019); 0 is off. Where both are on, each batch takes one of them.
        mix_probability: Fraction of batches that are mixed at all.
        dropout: Dropout probability of the pooled features.
        temperature: What the logits are divided by before they become probabilities, as `visionkit calibrate` finds it;
            it belongs to the weights, so a training begins at 1.
        conformal: How prediction sets are made, as `visionkit calibrate --conformal` finds it; none by default.
        **shared: See `BackboneTask`. The input is by default what the backbone's weights were trained with.

    Example:
        >>> task = ClassificationTask("resnet18", classes=["cat", "dog"])
        >>> task(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).logits.shape
        torch.Size([1, 2])
    """

    name = "classification"
    title = "Classification"
    question = "Which of these classes does the image show?"
    kinds = ("classification",)
    monitor = ("val/top1", "max")
    targets = ("labels",)
    outputs = ClassificationOutputs
    public_schemes = ("timm",)

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        multilabel: bool = False,
        threshold: float = 0.5,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        mix_probability: float = 1.0,
        dropout: float = 0.0,
        temperature: float = 1.0,
        conformal: ConformalConfig | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        if not self.classes:
            raise UsageError("model.classes: at least one class is needed; give data.classes or let the data name them")
        if class_weights is not None and len(class_weights) != len(self.classes):
            raise UsageError(
                f"model.class_weights: {len(self.classes)} classes need as many weights, not {len(class_weights)}"
            )
        if not (temperature > 0 and math.isfinite(temperature)):
            raise UsageError(f"model.temperature {temperature:g}: a number above 0 is needed; 1 changes nothing")
        if conformal is not None and multilabel:
            raise UsageError("model.conformal: sets are for one label per image; leave it out with multilabel")
        body = Backbone(backbone, num_classes=len(self.classes), **self.backbone_arguments)
        classifier = body.take_classifier()
        if classifier is None:
            raise UsageError(
                f"model.backbone {backbone!r}: its family has no classifier to train; choose another backbone"
            )
        head = ClassificationHead(classifier, dropout)
        self.network = ClassificationNetwork(body, head)
        self.normalize = Normalize(body.mean, body.std)
        self.loss = ClassificationLoss(multilabel, label_smoothing, class_weights)
        self.multilabel, self.threshold = multilabel, threshold
        self.temperature = temperature
        self.conformal = ConformalConfig(**conformal) if isinstance(conformal, Mapping) else conformal
        if multilabel:
            self.monitor = ("val/map", "max")  # type: ignore[misc]
        self.metrics = build_metrics(len(self.classes), multilabel, threshold)
        self._mixer = _mixer(mixup, cutmix, mix_probability, len(self.classes))

    @classmethod
    def default_input(cls, backbone: str = "resnet18", pretrained: bool = False, **init_args: Any) -> InputSpec:
        """The size and interpolation that the backbone's public weights were trained with."""
        facts = backbone_facts(backbone, pretrained)
        fraction = facts.crop_fraction if facts.train_size == facts.input_size else 0.875
        return InputSpec(size=facts.train_size, interpolation=facts.interpolation, crop_fraction=fraction)

    @classmethod
    def from_public(cls, scheme: str, name: str) -> ClassificationTask:
        """An ImageNet classifier of timm as it is: `timm:resnet50`.

        Raises:
            UsageError: Not timm's, or its weights do not classify ImageNet.
            EnvironmentFault: The weights are not in the cache and the hub does not respond.
        """
        if scheme != "timm":
            raise UsageError(f"{scheme}:{name}: classification knows public names of the form timm:<model>")
        names = backbone_facts(name, pretrained=True).class_names()
        if names is None:
            raise UsageError(
                f"timm:{name}: nobody has recorded the class names of these weights, so they cannot be used as they are"
            )
        # Published numbers are Pillow's, at the test size, which may exceed the training size.
        facts = backbone_facts(name, pretrained=True)
        kernel: Interpolation = "pillow_bilinear" if facts.interpolation == "bilinear" else "pillow_bicubic"
        spec = InputSpec(size=facts.input_size, interpolation=kernel, crop_fraction=facts.crop_fraction)
        task = cls(name, classes=names, input=spec, pretrained=True)
        task._config["pretrained"] = False
        return task

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and len(self.classes) < 2 and not self.multilabel:
            raise UsageError(
                f"one class alone ({self.classes[0]!r}) leaves nothing to choose between; a classifier needs images of "
                "two or more classes, or --model.multilabel true for a label that holds or does not"
            )
        if stage == "fit" and (self.temperature != 1 or self.conformal is not None):
            log.warning("training changes the weights, so temperature and prediction sets of the model are dropped")
            self.calibrate(1.0, None)

    def calibrate(self, temperature: float, conformal: ConformalConfig | None) -> None:
        """Takes a temperature and how sets are made, for the metrics, for what is served and for checkpoints.

        Args:
            temperature: Above 0; 1 is that of an uncalibrated model.
            conformal: None serves no sets.
        """
        self.temperature, self.conformal = temperature, conformal
        self._config |= {"temperature": temperature, "conformal": plain(conformal)}

    def losses(self, outputs: ClassificationOutputs, target: Any) -> dict[str, Tensor]:
        if self.multilabel and target["labels"].ndim == 1:
            raise UsageError("model.multilabel is true but the data has one label per image; leave it out")
        term = "binary_cross_entropy" if self.multilabel else "cross_entropy"
        return {term: self.loss(outputs.logits, target["labels"])}

    def decode(self, outputs: ClassificationOutputs) -> Tensor:
        """(B, K) float32 probabilities."""
        return probabilities(outputs.logits, self.multilabel, self.temperature)

    def restore(self, decoded: Tensor, geometry: Sequence[Geometry]) -> list[Prediction]:
        return list(to_predictions(decoded, self.classes, self.multilabel, self.threshold, self.conformal))

    def measure(self, decoded: Tensor, batch: Batch) -> None:
        labels = batch["target"]["labels"]
        self._check_kind(labels)
        self.metrics.update(decoded, labels.long() if self.multilabel else labels)

    def train_batch(self, batch: Batch) -> Batch:
        """Mixes images and labels on the device, after the transfer and before normalization."""
        self._check_kind(batch["target"]["labels"])
        if self._mixer is None:
            return batch
        image, labels = batch["inputs"]["image"], batch["target"]["labels"]
        if len(image) % 2:
            raise UsageError(f"model.mixup and model.cutmix pair images up: data.batch_size {len(image)} must be even")
        image = image.float()
        if self.multilabel:
            fraction = self._mixer._mix_batch(image)  # timm's one-hot step is for one label per image
            labels = labels * fraction + labels.flip(0) * (1.0 - fraction)
        else:
            image, labels = self._mixer(image, labels)
        return {**batch, "inputs": {"image": image}, "target": {**batch["target"], "labels": labels}}

    @property
    def protocol(self) -> str:
        height, width = self.input.size
        view = f"{self.input.resize_mode} to {height}x{width}"
        if self.input.resize_mode == "crop":
            view = f"one center crop of {height}x{width}, crop fraction {self.input.crop_fraction:g}"
        kind = "top-1 and top-5" if len(self.classes) > 5 else "top-1"
        if self.multilabel:
            kind = f"mean average precision over classes that occur; F1 and exact match at {self.threshold:g};"
        return f"{kind} on {view}, {self.input.interpolation} antialiased"

    def _check_kind(self, labels: Tensor) -> None:
        if labels.ndim == 2 and not self.multilabel:
            raise UsageError("the data has several labels per image; set --model.multilabel true")

    def tabulate(self, computed: Mapping[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
        tables: dict[str, list[dict[str, Any]]] = {}
        if "confusion" in computed:
            matrix = computed["confusion"]
            tables["per class"] = class_table(matrix, self.classes)
            if len(self.classes) <= LARGEST_TABLE:
                tables["confusion"] = confusion_table(matrix, self.classes)
            else:
                tables["largest confusions"] = largest_confusions(matrix, self.classes)
        if "precision_recall" in computed:
            tables["precision-recall"] = precision_recall_table(computed["precision_recall"], self.classes)
        return tables

    def analysis(self) -> Analysis:
        return ClassificationAnalysis(self.classes, self.multilabel)

    def charts(self) -> dict[str, Chart]:
        return {"precision-recall": Curves("recall", "precision")}


def _mixer(mixup: float, cutmix: float, probability: float, classes: int) -> Any:
    if mixup <= 0 and cutmix <= 0:
        return None
    from timm.data import Mixup

    # Label smoothing stays with the loss, which also sees the batches that are not mixed.
    return Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, prob=probability, label_smoothing=0.0, num_classes=classes)
