"""Classification with localization: what the one object of an image is, and where, from the whole image at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.detection.loss import gather, masked
from tasks.detection.network import DenseOutputs
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone, Features
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.boxes import Objects, clip_boxes, decode_fractions, encode_fractions, gather_objects
from visionkit.families.detection.select import SelectedBoxes, Thresholds, select_by_class


@dataclass(frozen=True)
class Localizer(DetectionArchitecture):
    """One object per image, its class and its box regressed from the whole image (Sermanet et al., 2014).

    Attributes:
        strides: Strides of the backbone's maps that are pooled.
        neck_channels: Channels of the pooled grid and of the hidden layer.
    """

    strides: Sequence[int] = (16, 32)
    neck_channels: int = 256

    nms: ClassVar[float] = 1.0
    one_object: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("model.localizer", 1, neck_channels=self.neck_channels)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return DenseOutputs

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return LocalizerNetwork(backbone, classes, width=self.neck_channels)

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return localizer_losses(outputs, gather_objects(target, outputs.logits.device))

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        limits = limits._replace(detections=1)
        probabilities = outputs.logits.float().softmax(dim=-1)[..., 1:]
        return [select_by_class(p, boxes, limits) for p, boxes in zip(probabilities, outputs.boxes, strict=True)]


class LocalizerNetwork(nn.Module):
    """Classification with localization: what the one object of an image is, and where, from the whole image at once.

    The box is regressed beside the classes, as in OverFeat (Sermanet et al., 2014), from maps brought to a fixed grid.

    Args:
        backbone: Gives a pyramid; all of its maps are used.
        classes: K.
        width: Channels of the grid and of the hidden layer.
    """

    side = 7
    """Cells of the grid across and down."""

    def __init__(self, backbone: Backbone, classes: int, *, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.channels.values())
        self.hidden = nn.Linear(width * self.side**2, width)
        self.classifier = nn.Linear(width, 1 + classes)
        self.regressor = nn.Linear(width, 4)

    def forward(self, image: Tensor) -> DenseOutputs:
        """(B, C, H, W) normalized images to a box each; its deltas are center and sides as fractions of the image."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the image's."""
        levels = zip(self.lateral, features.pyramid.values(), strict=True)
        grids = [lateral(area_pooled(level, self.side)) for lateral, level in levels]
        hidden = self.hidden(torch.stack(grids).sum(dim=0).relu().flatten(1)).relu()
        deltas = self.regressor(hidden).float().sigmoid()[:, None]
        whole = torch.tensor([[0, 0, size[1], size[0]]], dtype=torch.float32, device=deltas.device)
        boxes = clip_boxes(decode_fractions(deltas.detach(), whole), size)
        return DenseOutputs(self.classifier(hidden)[:, None], boxes, torch.tensor([1]), deltas, whole)


def area_pooled(level: Tensor, side: int) -> Tensor:
    """(B, C, h, w) brought to (B, C, side, side), every cell the mean of what lies in it.

    `adaptive_avg_pool2d` does that, but exports only where the sides divide; a product with two matrices always does.
    """
    rows, columns = (_fractions(length, side).to(level) for length in level.shape[-2:])
    return torch.einsum("ih,bchw,jw->bcij", rows, level, columns)


def _fractions(length: int, side: int) -> Tensor:
    """(side, length): how much each of `length` places counts in the mean of each of `side` equal cells."""
    edges = torch.arange(side + 1, dtype=torch.float32) * (length / side)
    place = torch.arange(length, dtype=torch.float32)
    low, high = torch.maximum(edges[:-1, None], place), torch.minimum(edges[1:, None], place + 1)
    return (high - low).clamp(min=0) * (side / length)


def localizer_losses(outputs: DenseOutputs, objects: Objects) -> dict[str, Tensor]:
    """Cross entropy of the class and L1 loss of the box, as fractions of the image; of several objects the largest.

    An image without an object trains the background and no box.

    Args:
        outputs: (B, 1, ...) of `LocalizerNetwork`; its one anchor is the image.
        objects: Target objects of the batch.
    """
    deltas, whole = outputs.deltas, outputs.anchors
    assert deltas is not None and whole is not None
    area = (objects.boxes[..., 2:] - objects.boxes[..., :2]).prod(dim=-1)
    index = torch.where(objects.valid, area, -torch.inf).argmax(dim=1, keepdim=True)
    there = objects.valid.any(dim=1)
    box = gather(objects.boxes, index)
    labels = torch.where(there, 1 + gather(objects.labels, index)[:, 0], 0)
    distance = (deltas - encode_fractions(box, whole)).abs().sum(dim=-1)
    return {
        "classes": F.cross_entropy(outputs.logits[:, 0].float(), labels),
        "boxes": masked(distance, there[:, None]).sum() / there.sum().clamp(min=1),
    }
