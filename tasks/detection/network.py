"""What the one-stage networks with anchors return; the networks are in `architectures`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DenseOutputs(NamedTuple):
    """Raw outputs of RetinaNet, SSD and the localizer, before any selection.

    Fields with a default are for the losses alone and not part of an exported graph.

    Attributes:
        logits: (B, A, K), for SSD and the localizer (B, A, 1 + K) with background first.
        boxes: (B, A, 4) float32 in input pixels, cut off at the image.
        counts: (L,) int64, anchors of each level, finest first.
        deltas: (B, A, 4), what the boxes were decoded from.
        anchors: (A, 4) in input pixels.
    """

    logits: Tensor
    boxes: Tensor
    counts: Tensor
    deltas: Tensor | None = None
    anchors: Tensor | None = None
