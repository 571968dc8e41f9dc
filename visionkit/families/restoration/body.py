"""What every network states about itself: its colors, the resolution it works at, and whether it adds to bicubic."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn


class Body(nn.Module):
    """The learned part of a network.

    Attributes:
        color: `y`: takes and gives one channel of luma, colors are enlarged by bicubic. `rgb`: three of each.
        space: Takes the image at `low` resolution, or at `high`, enlarged by bicubic before.
        skip: What it gives is added to bicubic.
        align: Side of its attention windows, at whose multiples a part of an image has to begin; 1 for convolutions.
    """

    color: Literal["y", "rgb"]
    space: ClassVar[Literal["low", "high"]]
    skip: ClassVar[bool]
    align: int = 1

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1 or 3, h, w) float in [0, 1] to the same at the high resolution."""
        raise NotImplementedError
