"""Backbone, decoder and head, with logits left on the decoder's grid."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from visionkit.backbones import Features
from visionkit.families.dense.network import DenseNetwork


class SegmentationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (B, K, h, w) float, on the decoder's grid: a cell is `SegmentationNetwork.stride` pixels wide.
    """

    logits: Tensor


class SegmentationNetwork(DenseNetwork):
    """A dense network whose prediction stays on the decoder's grid; labels at file size are made from it directly."""

    def read(self, features: Features, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Any:
        """The decoder's half, to `SegmentationOutputs`."""
        return SegmentationOutputs(super().read(features, seen, size))
