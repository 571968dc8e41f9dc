"""The convolutional heads of one-stage detectors, shared by all levels or one for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from visionkit.nn.norms import group_norm

HeadNorm = Literal["group", "none"]


def rows(map_: Tensor, columns: int) -> Tensor:
    """(B, A * columns, h, w) to (B, h * w * A, columns), places row by row, the anchors of a place together."""
    return map_.permute(0, 2, 3, 1).reshape(map_.shape[0], -1, columns)


class ConvTower(nn.Sequential):
    """3x3 convolutions of one width, each with its norm and ReLU.

    Args:
        width: Channels in and out.
        convs: How many.
        norm: `group`, which a network from scratch needs, or `none`.
    """

    def __init__(self, width: int, convs: int, norm: HeadNorm) -> None:
        super().__init__()
        for number in range(convs):
            block = nn.Sequential()
            block.add_module("conv", nn.Conv2d(width, width, 3, padding=1))
            if norm == "group":
                block.add_module("norm", group_norm(width))
            block.add_module("relu", nn.ReLU(inplace=True))
            self.add_module(str(number), block)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class DetectionHead(nn.Module):
    """Class logits and box deltas at every anchor of every level, by one head that all levels share.

    The heads of RetinaNet (Lin et al., 2017) and, with centerness, of FCOS (Tian et al., 2019).

    Args:
        width: Channels of the levels.
        classes: K.
        anchors: Number of anchors at one place.
        convs: Number of convolutions of each of the two towers.
        norm: See `ConvTower`.
        centerness: Also predict how far in the middle of its object a place lies; distances are then positive.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        anchors: int = 1,
        *,
        convs: int = 4,
        norm: HeadNorm = "group",
        centerness: bool = False,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.class_tower, self.box_tower = ConvTower(width, convs, norm), ConvTower(width, convs, norm)
        self.logits = nn.Conv2d(width, anchors * classes, 3, padding=1)
        self.deltas = nn.Conv2d(width, anchors * 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, anchors, 3, padding=1) if centerness else None
        for conv in (self.logits, self.deltas, self.centerness):
            if conv is not None:
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        # At first every class is improbable (1 %): else the many empty places would drown all else.
        nn.init.constant_(self.logits.bias, -math.log(99.0))  # type: ignore[arg-type]
        if centerness:
            # Distances pass a ReLU: from zero half of them would be dead at birth.
            nn.init.constant_(self.deltas.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Maps (B, width, h, w) to logits (B, A, K), deltas (B, A, 4) and, where it has it, centerness (B, A)."""
        logits, deltas, centerness = [], [], []
        for map_ in maps:
            logits.append(rows(self.logits(self.class_tower(map_)), self.classes))
            features = self.box_tower(map_)
            delta = self.deltas(features)
            if self.centerness is not None:
                delta = delta.relu()
                centerness.append(rows(self.centerness(features), 1)[..., 0])
            deltas.append(rows(delta, 4))
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1), torch.cat(centerness, dim=1) if centerness else None


class LevelHeads(nn.Module):
    """A 3x3 convolution for classes and one for boxes at each level (SSD; Liu et al., 2016).

    Args:
        widths: Channels of each level.
        classes: 1 + K, background first.
        anchors: Number of anchors at one place of each level.
    """

    def __init__(self, widths: Sequence[int], classes: int, anchors: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip(widths, anchors, strict=True))
        self.classes = classes
        self.logits = nn.ModuleList(nn.Conv2d(width, count * classes, 3, padding=1) for width, count in pairs)
        self.deltas = nn.ModuleList(nn.Conv2d(width, count * 4, 3, padding=1) for width, count in pairs)
        for conv in (*self.logits, *self.deltas):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (B, C, h, w) to logits (B, A, 1 + K) and deltas (B, A, 4)."""
        logits = [rows(conv(map_), self.classes) for conv, map_ in zip(self.logits, maps, strict=True)]
        deltas = [rows(conv(map_), 4) for conv, map_ in zip(self.deltas, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(deltas, dim=1)
