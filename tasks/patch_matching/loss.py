"""What parts matches from other pairs."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LossName = Literal["hinge", "bce"]


def match_loss(name: LossName, score: Tensor, match: Tensor) -> Tensor:
    """The mean loss of a batch.

    Args:
        name: `hinge`, max(0, 1 - y score) with y of 1 or -1 (Zagoruyko and Komodakis, 2015); `bce`, binary
            cross-entropy.
        score: (B,) float.
        match: (B,) int64, 1 for a match.
    """
    truth = match.to(score.dtype)
    if name == "bce":
        return F.binary_cross_entropy_with_logits(score, truth)
    return (1 - (2 * truth - 1) * score).clamp(min=0).mean()
