"""What is the same for all networks: bicubic beside them and the way from luma back to colour."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from tasks.super_resolution.bicubic import Bicubic
from tasks.super_resolution.body import Body
from tasks.super_resolution.colour import LUMA_RANGE, luma


class SuperResolutionOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        high_res: (B, 3, scale * h, scale * w) float RGB, about [0, 1], not clipped.
    """

    high_res: Tensor


class SuperResolutionNetwork(nn.Module):
    """A body with bicubic beside it.

    A body that learns luma gets it from the picture, and what it changes of it is added to red, green and blue alike,
    which leaves the colours as bicubic gives them.

    Args:
        body: What is learnt.
        scale: Factor.
    """

    def __init__(self, body: Body, scale: int) -> None:
        super().__init__()
        self.body = body
        self.bicubic = Bicubic(scale)

    def forward(self, image: Tensor) -> SuperResolutionOutputs:
        """(B, 3, h, w) float RGB in [0, 1] to the picture `scale` times as large."""
        body = self.body
        if body.colour == "rgb" and body.space == "low" and not body.skip:
            return SuperResolutionOutputs(body(image).float())
        enlarged = self.bicubic(image)
        if body.colour == "rgb":
            out = body(enlarged if body.space == "high" else image).float()
            return SuperResolutionOutputs(enlarged + out if body.skip else out)
        before = luma(enlarged)
        out = body(before if body.space == "high" else luma(image)).float()
        change = out if body.skip else out - before
        return SuperResolutionOutputs(enlarged + change * (255.0 / LUMA_RANGE))
