"""A detector in one file: one box per cell of one map. Nothing else of the repository knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.boxes import gather_objects
from visionkit.families.detection.select import SelectedBoxes, Thresholds, select_by_sigmoid


class CellOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (B, A, K).
        boxes: (B, A, 4) in input pixels.
    """

    logits: Tensor
    boxes: Tensor


class CellNetwork(nn.Module):
    """Two 1x1 convolutions on one map."""

    def __init__(self, backbone: Backbone, classes: int, stride: int, side: float) -> None:
        super().__init__()
        self.backbone, self.stride, self.side = backbone, stride, side
        self.head = nn.Conv2d(backbone.channels[stride], classes + 4, 1)

    def forward(self, image: Tensor) -> CellOutputs:
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> CellOutputs:
        said = self.head(features.pyramid[self.stride])
        rows, columns = said.shape[-2:]
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centers = (torch.stack([x, y], -1).flatten(0, 1).to(said.device) + 0.5) * self.stride
        said = said.flatten(2).transpose(1, 2).float()
        half = said[..., -4:].sigmoid() * self.side
        boxes = torch.cat([centers - half[..., :2], centers + half[..., 2:]], dim=-1)
        limit = boxes.new_tensor([size[1], size[0]]).repeat(2)
        return CellOutputs(said[..., :-4], torch.minimum(boxes.clamp(min=0), limit))


@dataclass(frozen=True)
class Cells(DetectionArchitecture):
    """One box per cell of the coarsest map.

    Attributes:
        strides: Strides of the backbone's maps; the coarsest is read.
        largest_side: Largest distance in pixels from a cell's center to a side of its box.
    """

    strides: Sequence[int] = (16,)
    largest_side: float = 64.0

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return CellOutputs

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        return CellNetwork(backbone, classes, max(self.strides), self.largest_side)

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        objects = gather_objects(target, outputs.logits.device)
        middle = (outputs.boxes[..., :2] + outputs.boxes[..., 2:]).detach() / 2
        center = (objects.boxes[..., :2] + objects.boxes[..., 2:]) / 2
        near, owner = torch.cdist(middle, center).masked_fill(~objects.valid[:, None], torch.inf).min(dim=2)
        positive = near < network.stride
        wanted = F.one_hot(objects.labels.gather(1, owner), outputs.logits.shape[-1]) * positive[..., None]
        away = (outputs.boxes - objects.boxes.gather(1, owner[..., None].expand(-1, -1, 4))).abs().sum(-1)
        return {
            "classes": F.binary_cross_entropy_with_logits(outputs.logits, wanted.float()),
            "boxes": 0.01 * torch.where(positive, away, 0.0).mean(),
        }

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        rows = zip(outputs.logits, outputs.boxes, strict=True)
        return [select_by_sigmoid(logits, boxes, [len(boxes)], limits) for logits, boxes in rows]
