"""Differences of pixels by name."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from visionkit.errors import UsageError, suggest

PixelLoss = Literal["l1", "l2", "charbonnier"]
_CHARBONNIER = 1e-3


def check_pixel_loss(kind: str, key: str = "model.loss") -> None:
    """Refuses an unknown name.

    Args:
        kind: The name that was given.
        key: Where it was given, for the message.

    Raises:
        UsageError: With the names that exist and the nearest of them.
    """
    allowed = get_args(PixelLoss)
    if kind not in allowed:
        raise UsageError(f"{key} {kind!r}: allowed are {', '.join(allowed)}{suggest(kind, allowed)}")


def pixel_loss(kind: PixelLoss, ours: Tensor, wanted: Tensor) -> Tensor:
    """The mean difference of pixels.

    Args:
        kind: `l1`, `l2`, or `charbonnier`: sqrt(d^2 + 1e-6) (Lai et al., 2017).
        ours: Values about [0, 1], of any shape.
        wanted: The same shape.
    """
    if kind == "l2":
        return F.mse_loss(ours, wanted)
    if kind == "l1":
        return F.l1_loss(ours, wanted)
    return ((ours - wanted).square() + _CHARBONNIER**2).sqrt().mean()
