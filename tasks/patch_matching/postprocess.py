"""From scores to what people receive."""

from __future__ import annotations

import torch
from torch import Tensor

from visionkit.predictions import PatchMatch


def judged(score: Tensor, threshold: float) -> Tensor:
    """(B, 2) float32: the score of each pair, and the threshold that it is judged by."""
    score = score.float()
    return torch.stack([score, torch.full_like(score, threshold)], dim=1)


def to_matches(decoded: Tensor) -> list[PatchMatch]:
    """Predictions of what `judged` gives."""
    return [PatchMatch(score, threshold) for score, threshold in decoded.cpu().tolist()]
