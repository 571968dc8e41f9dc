"""Backbone, decoder and head, with logits left on the decoder's grid."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from visionkit.nn.dense import DenseNetwork


class SegmentationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (B, K, h, w) float, on the decoder's grid: a cell is `SegmentationNetwork.stride` pixels wide.
    """

    logits: Tensor


class SegmentationNetwork(DenseNetwork):
    """A dense network whose answer stays on the decoder's grid; labels at file size are made from it directly."""

    def forward(self, image: Tensor) -> Any:
        """(B, C, H, W) normalised pictures to `SegmentationOutputs`."""
        return SegmentationOutputs(super().forward(image))
