"""SSD (Liu et al., 2016): default boxes on maps of falling size, softmax over the classes and background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.detection.loss import gather, masked
from tasks.detection.network import DenseOutputs
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone, Features
from visionkit.families.detection.anchors import DefaultBoxes
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.boxes import (
    Objects,
    Weights,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    gather_objects,
    match,
)
from visionkit.families.detection.heads import LevelHeads
from visionkit.families.detection.select import SelectedBoxes, Thresholds, select_by_class
from visionkit.families.detection.ssd_neck import SSD300Neck, SSDNeck

WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)

NEGATIVES = 3
"""Background boxes for each one that stands for an object."""


@dataclass(frozen=True)
class SSD(DetectionArchitecture):
    """SSD (Liu et al., 2016).

    Attributes:
        neck_channels: Channels of every map that boxes are predicted from.
        levels: Number of these maps; those that the backbone does not have are made on top of it.
        published: Build the SSD300 that was published, which needs VGG-16, strides 8 and 16 and images of 300x300.
        topk_candidates: Boxes per class that go into the non-maximum suppression.
    """

    neck_channels: int = 256
    levels: int = 6
    published: bool = False
    topk_candidates: int = 1000

    nms: ClassVar[float] = 0.45

    def __post_init__(self) -> None:
        at_least("model.ssd", 1, neck_channels=self.neck_channels, topk_candidates=self.topk_candidates)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return DenseOutputs

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return SSDNetwork(backbone, classes, width=self.neck_channels, levels=self.levels, published=self.published)

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return ssd_losses(outputs, gather_objects(target, outputs.logits.device))

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        limits = limits._replace(candidates=self.topk_candidates)
        probabilities = outputs.logits.float().softmax(dim=-1)[..., 1:]
        return [select_by_class(p, boxes, limits) for p, boxes in zip(probabilities, outputs.boxes, strict=True)]


class SSDNetwork(nn.Module):
    """SSD (Liu et al., 2016): default boxes on maps of falling size, softmax over the classes and background.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        width: Channels of the levels.
        levels: Number of them.
        published: The SSD300 that was published: needs VGG-16 with strides 8 and 16, and images of 300x300.
    """

    def __init__(
        self, backbone: Backbone, classes: int, *, width: int = 256, levels: int = 6, published: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck: SSDNeck | SSD300Neck
        if published:
            # The third pooling keeps its odd last row: 38 places a side where 37 would be.
            pools = [module for module in backbone.modules() if isinstance(module, nn.MaxPool2d)]
            pools[2].ceil_mode = True
            self.neck = SSD300Neck(backbone.channels)
            ratios: list[list[float]] = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
            self.anchors = DefaultBoxes(ratios, (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), SSD300Neck.strides)
        else:
            self.neck = SSDNeck(backbone.channels, width, levels)
            count = len(self.neck.strides)
            self.anchors = DefaultBoxes([[2, 3]] * count, scales(count))
        self.head = LevelHeads(self.neck.widths, 1 + classes, self.anchors.per_place)

    def forward(self, image: Tensor) -> DenseOutputs:
        """(B, C, H, W) normalized images to outputs at every default box."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the image's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas = self.head(maps)
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_boxes(deltas.detach(), anchors, WEIGHTS), size)
        return DenseOutputs(logits, boxes, torch.tensor(counts), deltas, anchors)


def scales(levels: int) -> list[float]:
    """Sides of the squares as fractions of the image: 0.07 on the finest level, then evenly from 0.15 to 1.05."""
    rest = max(1, levels - 1)
    return [0.07] + [0.15 + 0.9 * k / rest for k in range(levels)]


def ssd_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Cross entropy with the hardest background boxes, and smooth L1 loss of the deltas (Liu et al., 2016)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    found = match(objects, anchors, 0.5, 0.5, low_quality=False, claim=True)
    total = found.positive.sum().clamp(min=1)
    wanted = encode_boxes(gather(objects.boxes, found.partner), anchors, WEIGHTS)
    distance = F.smooth_l1_loss(deltas.float(), wanted, reduction="none").sum(dim=-1)
    labels = torch.where(found.positive, 1 + gather(objects.labels, found.partner), 0)
    entropy = F.cross_entropy(outputs.logits.float().transpose(1, 2), labels, reduction="none")
    # An image without objects still teaches that nothing is there.
    hardest = (NEGATIVES * found.positive.sum(dim=1, keepdim=True)).clamp(min=NEGATIVES)
    order = torch.where(found.positive, -torch.inf, entropy.detach()).argsort(dim=1, descending=True).argsort(dim=1)
    background = (order < hardest) & ~found.positive
    return {
        "classes": masked(entropy, found.positive | background).sum() / total,
        "boxes": masked(distance, found.positive).sum() / total,
    }
