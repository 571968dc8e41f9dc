"""One-stage detectors on any backbone: RetinaNet, FCOS, SSD, and the localiser of one object a picture.

The two-stage one is `visionkit.detection.two_stage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
from visionkit.detection.anchors import AnchorGrid, DefaultBoxes
from visionkit.detection.boxes import Weights, clip_boxes, decode_boxes, decode_distances, decode_shares
from visionkit.detection.heads import DenseHead, HeadNorm, LevelHeads
from visionkit.nn.fpn import Extra, FPNNeck
from visionkit.nn.ssd_neck import SSD300Neck, SSDNeck

RETINANET_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)
SSD_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)


class DenseOutputs(NamedTuple):
    """Raw outputs of RetinaNet, SSD and the localiser, before any selection.

    Fields with a default are for the losses alone and not part of an exported graph.

    Attributes:
        logits: (B, A, K), for SSD and the localiser (B, A, 1 + K) with background first.
        boxes: (B, A, 4) float32 in input pixels, cut off at the picture.
        counts: (L,) int64, anchors of each level, finest first.
        deltas: (B, A, 4), what the boxes were decoded from.
        anchors: (A, 4) in input pixels.
    """

    logits: Tensor
    boxes: Tensor
    counts: Tensor
    deltas: Tensor | None = None
    anchors: Tensor | None = None


class FCOSOutputs(NamedTuple):
    """Raw outputs of FCOS: those of `DenseOutputs`, and how far in the middle of its object each place lies.

    Attributes:
        logits: (B, A, K).
        centerness: (B, A) logits.
        boxes: (B, A, 4) float32 in input pixels, cut off at the picture.
        counts: (L,) int64, places of each level, finest first.
        deltas: (B, A, 4), distances from the place to the four sides, in strides.
        anchors: (A, 4) in input pixels, a square of one stride around each place.
    """

    logits: Tensor
    centerness: Tensor
    boxes: Tensor
    counts: Tensor
    deltas: Tensor | None = None
    anchors: Tensor | None = None


class FCOSNetwork(nn.Module):
    """FCOS (Tian et al., 2019): every place of every level answers for itself, without anchors' shapes.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        width: Channels of the levels.
        extra: Coarser levels on top of the backbone's, see `FPNNeck`.
        convs: Of each tower of the head.
        norm: Of the head.
    """

    outputs = FCOSOutputs

    def __init__(
        self, backbone: Backbone, classes: int, *, width: int, extra: Extra, convs: int, norm: HeadNorm = "group"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = FPNNeck(backbone.channels, width, extra)
        self.head = DenseHead(width, classes, convs=convs, norm=norm, centerness=True)
        self.anchors = AnchorGrid([(stride,) for stride in self.neck.strides])

    def forward(self, image: Tensor) -> FCOSOutputs:
        """(B, C, H, W) normalised pictures to outputs at every place."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> FCOSOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the picture's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas, centerness = self.head(maps)
        assert centerness is not None
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_distances(deltas.detach(), anchors), size)
        return FCOSOutputs(logits, centerness, boxes, torch.tensor(counts), deltas, anchors)


class RetinaNetNetwork(nn.Module):
    """RetinaNet (Lin et al., 2017): nine anchors a place, focal loss.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        width: Channels of the levels.
        extra: Coarser levels on top of the backbone's, see `FPNNeck`.
        convs: Of each tower of the head.
        norm: Of the head; the published one has none.
        anchor_scale: Side of the smallest anchor of a level, in strides.
        ratios: Heights over widths of the anchors.
    """

    outputs = DenseOutputs

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        width: int,
        extra: Extra,
        convs: int,
        norm: HeadNorm,
        anchor_scale: float = 4.0,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = FPNNeck(backbone.channels, width, extra)
        self.anchors = AnchorGrid(octaves(self.neck.strides, anchor_scale), ratios)
        self.head = DenseHead(width, classes, self.anchors.per_place, convs=convs, norm=norm)

    def forward(self, image: Tensor) -> DenseOutputs:
        """(B, C, H, W) normalised pictures to outputs at every anchor."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the picture's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas, _ = self.head(maps)
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_boxes(deltas.detach(), anchors, RETINANET_WEIGHTS), size)
        return DenseOutputs(logits, boxes, torch.tensor(counts), deltas, anchors)


def octaves(strides: Sequence[int], scale: float) -> list[tuple[int, int, int]]:
    """Three sides a level, a third of an octave apart, beginning at `scale` strides, whole as in torchvision."""
    sides = [scale * stride for stride in strides]
    return [(int(side), int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in sides]


class SSDNetwork(nn.Module):
    """SSD (Liu et al., 2016): default boxes on maps of falling size, softmax over the classes and background.

    Args:
        backbone: Gives a pyramid.
        classes: K.
        width: Channels of the levels.
        levels: Number of them.
        published: The SSD300 that was published: wants VGG-16 with strides 8 and 16, and pictures of 300x300.
    """

    outputs = DenseOutputs

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
        """(B, C, H, W) normalised pictures to outputs at every default box."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the picture's."""
        maps = list(self.neck(features.pyramid).values())
        logits, deltas = self.head(maps)
        anchors, counts = self.anchors(maps, size)
        boxes = clip_boxes(decode_boxes(deltas.detach(), anchors, SSD_WEIGHTS), size)
        return DenseOutputs(logits, boxes, torch.tensor(counts), deltas, anchors)


class LocalizerNetwork(nn.Module):
    """Classification with localisation: what the one object of a picture is, and where, from the whole picture at once.

    The box is regressed beside the classes, as in OverFeat (Sermanet et al., 2014), from maps brought to a fixed grid.

    Args:
        backbone: Gives a pyramid; all of its maps are used.
        classes: K.
        width: Channels of the grid and of the hidden layer.
    """

    outputs = DenseOutputs

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
        """(B, C, H, W) normalised pictures to a box each; its deltas are centre and sides as shares of the picture."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

    def read(self, features: Features, size: tuple[int, int]) -> DenseOutputs:
        """The head's half: a backbone pass that other heads share is enough. `size` is the picture's."""
        levels = zip(self.lateral, features.pyramid.values(), strict=True)
        grids = [lateral(area_pooled(level, self.side)) for lateral, level in levels]
        hidden = self.hidden(torch.stack(grids).sum(dim=0).relu().flatten(1)).relu()
        deltas = self.regressor(hidden).float().sigmoid()[:, None]
        whole = torch.tensor([[0, 0, size[1], size[0]]], dtype=torch.float32, device=deltas.device)
        boxes = clip_boxes(decode_shares(deltas.detach(), whole), size)
        return DenseOutputs(self.classifier(hidden)[:, None], boxes, torch.tensor([1]), deltas, whole)


def area_pooled(level: Tensor, side: int) -> Tensor:
    """(B, C, h, w) brought to (B, C, side, side), every cell the mean of what lies in it.

    `adaptive_avg_pool2d` does that, but exports only where the sides divide; a product with two matrices always does.
    """
    rows, columns = (_shares(length, side).to(level) for length in level.shape[-2:])
    return torch.einsum("ih,bchw,jw->bcij", rows, level, columns)


def _shares(length: int, side: int) -> Tensor:
    """(side, length): how much each of `length` places counts in the mean of each of `side` equal cells."""
    edges = torch.arange(side + 1, dtype=torch.float32) * (length / side)
    place = torch.arange(length, dtype=torch.float32)
    low, high = torch.maximum(edges[:-1, None], place), torch.minimum(edges[1:, None], place + 1)
    return (high - low).clamp(min=0) * (side / length)


def scales(levels: int) -> list[float]:
    """Sides of the squares as fractions of the picture: 0.07 on the finest level, then evenly from 0.15 to 1.05."""
    rest = max(1, levels - 1)
    return [0.07] + [0.15 + 0.9 * k / rest for k in range(levels)]
