"""What is the same for all networks: bicubic beside them and the way from luma back to color."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from visionkit.families.restoration.bicubic import Bicubic
from visionkit.families.restoration.body import Body
from visionkit.families.restoration.color import LUMA_RANGE, luma


class SuperResolutionOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        high_res: (B, 3, scale * h, scale * w) float RGB, about [0, 1], not clipped.
    """

    high_res: Tensor


class SuperResolutionNetwork(nn.Module):
    """A body with bicubic beside it.

    A body that works on luma gets it from the image, and what it changes of it is added to red, green and blue alike,
    which leaves the colors as bicubic gives them.

    Args:
        body: What is trained.
        scale: Factor.
    """

    def __init__(self, body: Body, scale: int) -> None:
        super().__init__()
        self.body = body
        self.bicubic = Bicubic(scale)

    def forward(self, image: Tensor) -> SuperResolutionOutputs:
        """(B, 3, h, w) float RGB in [0, 1] to the image `scale` times as large."""
        body = self.body
        if body.color == "rgb" and body.space == "low" and not body.skip:
            return SuperResolutionOutputs(body(image).float())
        enlarged = self.bicubic(image)
        if body.color == "rgb":
            out = body(enlarged if body.space == "high" else image).float()
            return SuperResolutionOutputs(enlarged + out if body.skip else out)
        before = luma(enlarged)
        out = body(before if body.space == "high" else luma(image)).float()
        change = out if body.skip else out - before
        return SuperResolutionOutputs(enlarged + change * (255.0 / LUMA_RANGE))
