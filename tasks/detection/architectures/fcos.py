"""FCOS (Tian et al., 2019): every position of every level predicts for itself, without anchors' shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from tasks.detection.architectures.one_stage import OneStage
from tasks.detection.loss import gather, one_hot
from visionkit.backbones import Backbone, Features
from visionkit.families.detection.anchors import AnchorGrid
from visionkit.families.detection.boxes import Objects, clip_boxes, decode_distances, gather_objects
from visionkit.families.detection.fpn import FPNNeck
from visionkit.families.detection.heads import DetectionHead
from visionkit.families.detection.select import SelectedBoxes, Thresholds


class FCOSOutputs(NamedTuple):
    """Raw outputs of FCOS: those of `DenseOutputs`, and how far in the middle of its object each position lies.

    Attributes:
        logits: (B, A, K).
        centerness: (B, A) logits.
        boxes: (B, A, 4) float32 in input pixels, cut off at the image.
        counts: (L,) int64, places of each level, finest first.
        deltas: (B, A, 4), distances from the place to the four sides, in strides.
        anchors: (A, 4) in input pixels, a square of one stride around each position.
    """

    logits: Tensor
    centerness: Tensor
    boxes: Tensor
    counts: Tensor
    deltas: Tensor | None = None
    anchors: Tensor | None = None


@dataclass(frozen=True)
class FCOS(OneStage):
    """FCOS (Tian et al., 2019).

    Attributes:
        center_radius: A place is trained on an object whose center is nearer than so many strides.
    """

    center_radius: float = 1.5

    nms: ClassVar[float] = 0.6
    place: ClassVar[str] = "fcos"

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return FCOSOutputs

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return FCOSNetwork(backbone, classes, self)

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return fcos_losses(outputs, gather_objects(target, outputs.logits.device), self.center_radius)

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        return self.select(outputs, limits, outputs.centerness)


class FCOSNetwork(nn.Module):
    """FCOS (Tian et al., 2019): every position of every level predicts for itself, without anchors' shapes.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        options: Arguments of the architecture.
    """

    def __init__(self, backbone: Backbone, classes: int, options: FCOS) -> None:
        super().__init__()
        self.backbone, width = backbone, options.neck_channels
        self.neck = FPNNeck(backbone.channels, width, options.extra_levels)
        self.head = DetectionHead(width, classes, convs=options.convs, norm=options.head_norm, centerness=True)
        self.anchors = AnchorGrid([(stride,) for stride in self.neck.strides])

    def forward(self, image: Tensor) -> FCOSOutputs:
        """(B, C, H, W) normalized images to outputs at every position."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> FCOSOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the image's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas, centerness = self.head(maps)
        assert centerness is not None
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_distances(deltas.detach(), anchors), size)
        return FCOSOutputs(logits, centerness, boxes, torch.tensor(counts), deltas, anchors)


def fcos_losses(outputs: FCOSOutputs, objects: Objects, center_radius: float = 1.5) -> dict[str, Tensor]:
    """Focal loss of the classes, GIoU loss of the boxes, cross entropy of the centerness (Tian et al., 2019)."""
    deltas, anchors = outputs.deltas, outputs.anchors
    assert deltas is not None and anchors is not None
    index, positive = fcos_assign(objects, anchors, center_radius)
    count = positive.sum().clamp(min=1)
    boxes = gather(objects.boxes, index)
    target = one_hot(gather(objects.labels, index), positive, outputs.logits)
    classes = sigmoid_focal_loss(outputs.logits.float(), target, reduction="sum") / count
    predicted = decode_distances(deltas, anchors)
    overlap = generalized_box_iou_loss(predicted, boxes, reduction="none")
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    reach = torch.cat([center - boxes[..., :2], boxes[..., 2:] - center], dim=-1).clamp(min=1e-3)
    near = torch.minimum(reach[..., :2], reach[..., 2:]) / torch.maximum(reach[..., :2], reach[..., 2:])
    wanted = near.prod(dim=-1).sqrt()
    middle = F.binary_cross_entropy_with_logits(outputs.centerness.float(), wanted, reduction="none")
    zero = torch.zeros((), device=overlap.device)
    return {
        "classes": classes,
        "boxes": torch.where(positive, overlap, zero).sum() / count,
        "centerness": torch.where(positive, middle, zero).sum() / count,
    }


def fcos_assign(objects: Objects, anchors: Tensor, center_radius: float = 1.5) -> tuple[Tensor, Tensor]:
    """Which object each position is assigned to.

    The smallest of those in whose middle it lies and whose size is its level's.

    Args:
        objects: Target objects of the batch.
        anchors: (A, 4), a square of one stride around each position.
        center_radius: A place is trained on an object whose center is nearer than so many strides.

    Returns:
        (B, A) index of the object and whether there is one.
    """
    center, stride = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2] - anchors[:, 0]
    lowest = torch.where(stride <= stride.amin(), 0.0, 4 * stride)
    highest = torch.where(stride >= stride.amax(), torch.inf, 8 * stride)
    rows = []
    for boxes, valid in zip(objects.boxes, objects.valid, strict=True):
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        away = (center[:, None] - middle).abs().amax(dim=-1)
        sides = torch.cat([center[:, None] - boxes[:, :2], boxes[:, 2:] - center[:, None]], dim=-1)
        reach = sides.amax(dim=-1)
        fits = (away < center_radius * stride[:, None]) & (sides.amin(dim=-1) > 0) & valid
        fits = fits & (reach > lowest[:, None]) & (reach < highest[:, None])
        area = torch.where(fits, (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1), torch.inf)
        smallest, index = area.min(dim=1)
        rows.append((index, smallest < torch.inf))
    index, positive = (torch.stack(column) for column in zip(*rows, strict=True))
    return index, positive
