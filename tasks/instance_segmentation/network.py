"""The mask head; the network that it stands on is `visionkit.detection.two_stage`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from visionkit.detection.two_stage import Pooling, RoIPyramid
from visionkit.nn.norms import HeadNorm, head_norm


class MaskHead(nn.Module):
    """Four convolutions and an enlargement: one small mask a class for each box (He et al., 2017); torchvision's.

    Args:
        strides: Of the levels that boxes are cut from.
        width: Their channels.
        classes: K.
        hidden: Channels of the convolutions.
        pooling: See `RoIPyramid`.
        canonical: See `RoIPyramid`.
        norm: Of the convolutions, see `visionkit.nn.norms.head_norm`.
    """

    side = 14

    def __init__(
        self,
        strides: Sequence[int],
        width: int,
        classes: int,
        hidden: int,
        pooling: Pooling,
        canonical: float,
        norm: HeadNorm = "none",
    ) -> None:
        super().__init__()
        self.pool = RoIPyramid(strides, self.side, pooling, canonical)
        self.layers = MaskRCNNHeads(width, (hidden,) * 4, 1, head_norm(norm))
        self.predictor = MaskRCNNPredictor(hidden, hidden, classes)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Boxes (R, 5), the number of the picture first, to logits (R, K, 28, 28)."""
        return cast(Tensor, self.predictor(self.layers(self.pool(maps, rois))))
