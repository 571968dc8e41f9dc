"""What all networks of optical flow return."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FlowOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        flow: (B, 2, h, w) float, motion in pixels of the input to the right and downwards.
        estimates: For the loss alone: (B, 2, h', w') float, estimates in pixels of the input; at lower resolutions the
            finest first, at that of the input the last one last.
        consistent: (B, h, w) bool, where the flow from the second image back agrees; only where it was asked for.
    """

    flow: Tensor
    estimates: tuple[Tensor, ...] = ()
    consistent: Tensor | None = None
