"""What is known of the disparity, and the loss of networks that state it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (0.5, 0.7, 1.0)
"""Of the last three stages of a network, the last stage last (Chang and Chen, 2018)."""


def known(target: Mapping[str, Tensor]) -> Tensor:
    """(B, h, w) bool, where the disparity was measured."""
    measured = target["disparity"] > 0
    return measured & target["valid"] if "valid" in target else measured


def smooth_l1(stages: Sequence[Tensor], target: Mapping[str, Tensor], limit: int) -> dict[str, Tensor]:
    """Smooth L1 of disparity in pixels of the input, a weighted sum over the stages of a network.

    Args:
        stages: (B, h, w) each, the last stage last; three at most are weighted differently.
        target: `disparity`, and `valid` where it is known.
        limit: Truth from this many pixels on is not trained on.
    """
    truth = target["disparity"]
    there = known(target) & (truth < limit)
    count = there.sum().clamp(min=1)
    total = truth.new_zeros(())
    for weight, stage in zip(WEIGHTS[-len(stages) :], stages[-len(WEIGHTS) :], strict=True):
        each = F.smooth_l1_loss(stage.float(), truth, reduction="none")
        total = total + weight * torch.where(there, each, 0.0).sum() / count
    return {"smooth_l1": total}
