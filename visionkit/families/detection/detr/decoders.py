"""The two decoders: RT-DETR's moves the boxes layer by layer, D-FINE's refines the distributions of their sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from visionkit.families.detection.detr.deformable import Shapes
from visionkit.families.detection.detr.distribution import expected_offsets, moved_boxes, offset_bins
from visionkit.families.detection.detr.layers import MLP, Decoded, DecoderLayer, Seen, class_head, inverse_sigmoid


@dataclass(frozen=True)
class DecoderSizes:
    """How large a decoder is.

    Attributes:
        width: Channels of the queries.
        heads: Heads of its attentions.
        feedforward: Width of its hidden layers.
        points: Samples of a head on each map.
        layers: Number of layers.
        layers_used: Layers that are run outside of training; the last ones then help to train the others.
    """

    width: int
    heads: int
    feedforward: int
    points: Sequence[int]
    layers: int
    layers_used: int


class _Decoder(nn.Module):
    """What both have in common: layers, and the embedding of the queries' boxes."""

    def __init__(self, sizes: DecoderSizes, classes: int, gated: bool) -> None:
        super().__init__()
        width = sizes.width
        self.layers = nn.ModuleList(
            DecoderLayer(width, sizes.heads, sizes.feedforward, sizes.points, gated) for _ in range(sizes.layers)
        )
        self.position = MLP(4, 2 * width, width)
        self.class_heads = nn.ModuleList(class_head(width, classes) for _ in range(sizes.layers))
        self.layers_used = sizes.layers_used

    def steps(self) -> Iterator[tuple[int, DecoderLayer]]:
        """The layers that are run in this mode, numbered."""
        count = len(self.layers) if self.training else self.layers_used
        for number in range(count):
            yield number, cast(DecoderLayer, self.layers[number])


class BoxDecoder(_Decoder):
    """RT-DETR's decoder: every layer moves the boxes of the layer before (Zhao et al., 2024, arXiv 2304.08069).

    Args:
        sizes: Sizes of the decoder.
        classes: K.
    """

    def __init__(self, sizes: DecoderSizes, classes: int) -> None:
        super().__init__(sizes, classes, gated=False)
        width = sizes.width
        self.box_heads = nn.ModuleList(MLP(width, width, width, 4, zero=True) for _ in range(sizes.layers))

    def forward(
        self, queries: Tensor, start: Tensor, memory: Tensor, shapes: Shapes, seen: Seen | None = None
    ) -> Decoded:
        """Runs the layers.

        Args:
            queries: (B, Q, width).
            start: (B, Q, 4) float32 logits of center and sides.
            memory: (B, A, width), positions of all maps.
            shapes: Shapes of the maps.
            seen: What these queries see of others.
        """
        boxes = start.sigmoid()
        before: Tensor | None = None
        logits, found, keys, values = [], [], [], []
        for number, layer in self.steps():
            position = self.position(boxes.to(queries.dtype))
            keys.append(queries + position)
            values.append(queries)
            further = None if seen is None else (seen.keys[number], seen.values[number], seen.mask)
            queries = layer(queries, position, boxes, memory, shapes, further)
            moves = self.box_heads[number](queries).float()
            moved = (moves + inverse_sigmoid(boxes)).sigmoid()
            logits.append(self.class_heads[number](queries))
            # The layer before is trained by this one's boxes too ("look forward twice": Zhang et al., 2023).
            found.append(moved if before is None else (moves + inverse_sigmoid(before)).sigmoid())
            before, boxes = moved, moved.detach()
        return Decoded(torch.stack(logits), torch.stack(found), torch.stack(keys), torch.stack(values), queries)


class QualityHead(nn.Module):
    """What the sides' distributions state about the box's quality, added to its class logits (Li et al., 2021).

    Args:
        highest: Number of highest probabilities of a side that it is given, and their mean.
        hidden: Width of its hidden layer.
    """

    def __init__(self, highest: int = 4, hidden: int = 64) -> None:
        super().__init__()
        self.highest, self.mlp = highest, MLP(4 * (highest + 1), hidden, 1, zero=True)

    def forward(self, corners: Tensor) -> Tensor:
        """(B, Q, 4 * (bins + 1)) logits to (B, Q, 1)."""
        most = corners.float().unflatten(-1, (4, -1)).softmax(dim=-1).topk(self.highest, dim=-1).values
        facts = torch.cat([most, most.mean(dim=-1, keepdim=True)], dim=-1).flatten(-2)
        return cast(Tensor, self.mlp(facts.to(corners.dtype)))


class DistributionDecoder(_Decoder):
    """D-FINE's decoder: fine-grained distribution refinement (Peng et al., 2024, arXiv 2410.13842).

    The first layer states boxes; all layers together sum up logits of how far each side lies from there.

    Args:
        sizes: Sizes of the decoder.
        classes: K.
        bins: Number of steps between the offsets.
        scale: Curvature of the offsets, see `offset_bins`.
    """

    bins: Tensor

    def __init__(self, sizes: DecoderSizes, classes: int, bins: int, scale: float) -> None:
        super().__init__(sizes, classes, gated=True)
        width = sizes.width
        self.scale = scale
        self.register_buffer("bins", offset_bins(bins, scale), persistent=False)
        self.first_box = MLP(width, width, width, 4, zero=True)
        self.corner_heads = nn.ModuleList(
            MLP(width, width, width, 4 * (bins + 1), zero=True) for _ in range(sizes.layers)
        )
        self.quality_heads = nn.ModuleList(QualityHead() for _ in range(sizes.layers))

    def forward(
        self, queries: Tensor, start: Tensor, memory: Tensor, shapes: Shapes, seen: Seen | None = None
    ) -> Decoded:
        """Runs the layers; arguments as of `BoxDecoder`."""
        boxes = start.sigmoid()
        first = first_logits = first_boxes = boxes
        corners: Tensor | None = None
        before: Tensor | None = None
        logits, found, sides, keys, values = [], [], [], [], []
        for number, layer in self.steps():
            position = self.position(boxes.to(queries.dtype)).clamp(-10, 10)
            keys.append(queries + position)
            values.append(queries)
            further = None if seen is None else (seen.keys[number], seen.values[number], seen.mask)
            queries = layer(queries, position, boxes, memory, shapes, further)
            classes = self.class_heads[number](queries)
            if number == 0:
                first_boxes = (self.first_box(queries).float() + inverse_sigmoid(boxes)).sigmoid()
                first, first_logits = first_boxes.detach(), classes
            refined = self.corner_heads[number](queries if before is None else queries + before).float()
            corners = refined if corners is None else corners + refined
            located = moved_boxes(first, expected_offsets(corners, self.bins), self.scale)
            logits.append(classes + self.quality_heads[number](corners))
            found.append(located)
            sides.append(corners)
            before, boxes = queries.detach(), located.detach()
        all_logits, all_boxes, all_keys, all_values, all_sides = map(torch.stack, (logits, found, keys, values, sides))
        stated = queries, all_sides, first, first_logits, first_boxes
        return Decoded(all_logits, all_boxes, all_keys, all_values, *stated)
