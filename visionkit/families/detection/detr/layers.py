"""Layers of the decoders: attention among the queries and to the maps, and the small networks of their heads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.families.detection.detr.deformable import DeformableAttention, Shapes

PRIOR = -math.log((1 - 0.01) / 0.01)
"""First bias of class logits: every score begins at 0.01."""


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of fractions, kept away from 0 and 1 by `eps`."""
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


class MLP(nn.Sequential):
    """Linear layers with ReLU between them.

    Args:
        widths: Channels that come in, of each hidden layer, and that go out.
        zero: Begin with a last layer of zeros.
    """

    def __init__(self, *widths: int, zero: bool = False) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])
        if zero:
            last = cast(nn.Linear, self[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def class_head(width: int, classes: int) -> nn.Linear:
    """Logits of the classes, each judged by itself, which begin at a score of 0.01."""
    head = nn.Linear(width, classes)
    nn.init.constant_(head.bias, PRIOR)
    return head


class Seen(NamedTuple):
    """What further queries see of those that were run before: keys and values of each layer's self-attention.

    Attributes:
        keys: (L, B, Q, width).
        values: (L, B, Q, width).
        mask: (D, D + Q) bool, True where a query of D does not see the other.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class Gate(nn.Module):
    """Weighs two inputs against each other, in each channel (D-FINE's target gating layer)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.norm = nn.Linear(2 * width, 2 * width), nn.LayerNorm(width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, Q, width) each to (B, Q, width)."""
        one, other = self.gate(torch.cat([first, second], dim=-1)).sigmoid().chunk(2, dim=-1)
        return cast(Tensor, self.norm(one * first + other * second))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, deformable attention to the maps, a hidden layer.

    Args:
        width: Channels.
        heads: Number of heads.
        feedforward: Width of the hidden layer.
        points: Samples of a head on each map.
        gated: Join queries and samples by a gate, without projections, as D-FINE; else by a sum, as RT-DETR.
    """

    def __init__(self, width: int, heads: int, feedforward: int, points: Sequence[int], gated: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.sampling = DeformableAttention(width, heads, points, project=not gated)
        self.join = Gate(width) if gated else nn.LayerNorm(width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)
        self.gated = gated

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        boxes: Tensor,
        memory: Tensor,
        shapes: Shapes,
        seen: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One step of the decoder.

        Args:
            queries: (B, Q, width).
            position: (B, Q, width), embedding of their boxes.
            boxes: (B, Q, 4) center and sides as fractions of the image.
            memory: (B, A, width), positions of all maps.
            shapes: Shapes of the maps.
            seen: Further keys and values, and the mask over own and further ones.
        """
        placed = queries + position
        keys, values, mask = placed, queries, None
        if seen is not None:
            keys, values, mask = torch.cat([placed, seen[0]], dim=1), torch.cat([queries, seen[1]], dim=1), seen[2]
        attended = self.attention(placed, keys, values, attn_mask=mask, need_weights=False)[0]
        queries = self.norm1(queries + attended)
        sampled = self.sampling(queries + position, boxes, memory, shapes)
        queries = self.join(queries, sampled) if self.gated else self.join(queries + sampled)
        hidden = self.linear2(F.relu(self.linear1(queries)))
        return cast(Tensor, self.norm2((queries + hidden).clamp(-65504, 65504)))  # what float16 can hold


class Decoded(NamedTuple):
    """What a decoder states, layer by layer.

    Attributes:
        logits: (L, B, Q, K).
        boxes: (L, B, Q, 4) float32 center and sides as fractions of the image.
        keys: (L, B, Q, width) of each layer's self-attention.
        values: (L, B, Q, width), likewise; the queries that each layer is given.
        queries: (B, Q, width) that the last layer gives.
        corners: (L, B, Q, 4 * (bins + 1)) logits of the sides' offsets; D-FINE's alone, as is what follows.
        first: (B, Q, 4) boxes that the offsets begin at; no gradient reaches them.
        first_logits: (B, Q, K) stated with them.
        first_boxes: (B, Q, 4), with gradient.
    """

    logits: Tensor
    boxes: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    corners: Tensor | None = None
    first: Tensor | None = None
    first_logits: Tensor | None = None
    first_boxes: Tensor | None = None
