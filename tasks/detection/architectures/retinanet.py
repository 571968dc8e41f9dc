"""RetinaNet (Lin et al., 2017): nine anchors per place, focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from tasks.detection.architectures.one_stage import OneStage
from tasks.detection.loss import gather, masked, one_hot
from tasks.detection.network import DenseOutputs
from visionkit.backbones import Backbone, Features
from visionkit.families.detection.anchors import AnchorGrid
from visionkit.families.detection.boxes import (
    Objects,
    Weights,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    gather_objects,
    match,
)
from visionkit.families.detection.fpn import FPNNeck
from visionkit.families.detection.heads import DetectionHead
from visionkit.families.detection.select import SelectedBoxes, Thresholds

WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)
RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths of the anchors."""


@dataclass(frozen=True)
class RetinaNet(OneStage):
    """RetinaNet (Lin et al., 2017).

    Attributes:
        anchor_scale: Side of a level's smallest anchor in strides.
    """

    anchor_scale: float = 4.0

    place: ClassVar[str] = "retinanet"

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return DenseOutputs

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return RetinaNetNetwork(backbone, classes, self)

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return retinanet_losses(outputs, gather_objects(target, outputs.logits.device))

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        return self.select(outputs, limits)


class RetinaNetNetwork(nn.Module):
    """RetinaNet (Lin et al., 2017): nine anchors per place, focal loss.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        options: Arguments of the architecture.
    """

    def __init__(self, backbone: Backbone, classes: int, options: RetinaNet) -> None:
        super().__init__()
        self.backbone, width = backbone, options.neck_channels
        self.neck = FPNNeck(backbone.channels, width, options.extra_levels)
        self.anchors = AnchorGrid(octaves(self.neck.strides, options.anchor_scale), RATIOS)
        self.head = DetectionHead(width, classes, self.anchors.per_place, convs=options.convs, norm=options.head_norm)

    def forward(self, image: Tensor) -> DenseOutputs:
        """(B, C, H, W) normalized images to outputs at every anchor."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the image's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas, _ = self.head(maps)
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_boxes(deltas.detach(), anchors, WEIGHTS), size)
        return DenseOutputs(logits, boxes, torch.tensor(counts), deltas, anchors)


def octaves(strides: Sequence[int], scale: float) -> list[tuple[int, int, int]]:
    """Three sides a level, a third of an octave apart, beginning at `scale` strides, whole as in torchvision."""
    sides = [scale * stride for stride in strides]
    return [(int(side), int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in sides]


def retinanet_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Focal loss of the classes and L1 loss of the deltas, each a mean over images (Lin et al., 2017)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    found = match(objects, anchors, 0.5, 0.4, low_quality=True)
    count = found.positive.sum(dim=1).clamp(min=1)
    target = one_hot(gather(objects.labels, found.partner), found.positive, outputs.logits)
    focal = sigmoid_focal_loss(outputs.logits.float(), target, reduction="none").sum(dim=-1)
    used = found.positive | found.negative
    wanted = encode_boxes(gather(objects.boxes, found.partner), anchors, WEIGHTS)
    distance = (deltas.float() - wanted).abs().sum(dim=-1)
    return {
        "classes": (masked(focal, used) / count).mean(),
        "boxes": (masked(distance, found.positive) / count).mean(),
    }
