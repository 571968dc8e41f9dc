"""Flow in input pixels to flow fields in file pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import FlowField


class DecodedFlow(NamedTuple):
    """Flow in input pixels.

    Attributes:
        flow: (B, 2, h, w) float32.
        consistent: (B, h, w) bool, or None where the flow back was not asked for.
    """

    flow: Tensor
    consistent: Tensor | None = None


def to_predictions(decoded: DecodedFlow, geometry: Sequence[Geometry]) -> list[FlowField]:
    """One flow field per pair, of exactly the size of its first image.

    What the network never saw of the file is not valid; nor is what is inconsistent, where that was asked for.

    Args:
        decoded: Flow in input pixels.
        geometry: Geometry of each pair.
    """
    seen = torch.ones_like(decoded.flow[:, 0], dtype=torch.bool) if decoded.consistent is None else decoded.consistent
    out = []
    for flow, valid, way in zip(decoded.flow.float(), seen, geometry, strict=True):
        there = way.invert_map(valid[None].float(), fill=0.0, mode="nearest")[0] > 0.5
        out.append(FlowField(way.invert_vectors(flow).cpu().numpy(), there.cpu().numpy()))
    return out
