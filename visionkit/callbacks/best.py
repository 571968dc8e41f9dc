"""Which of two validations is the better one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visionkit.errors import UsageError


class Best:
    """The best score of a training so far. Of equal scores the one with the lower loss, and without a loss the later.

    Args:
        mode: "min" or "max".

    Attributes:
        score: None before the first finite one.
        loss: The validation loss that came with it; infinite where there was none.
    """

    def __init__(self, mode: str) -> None:
        if mode not in ("min", "max"):
            raise UsageError(f"checkpointing: mode {mode!r}: allowed are min and max")
        self.mode = mode
        self.score: Tensor | None = None
        self.loss = math.inf

    def is_beaten(self, score: Tensor, loss: float = math.inf) -> bool:
        """Whether a validation takes the place of the best."""
        if self.score is None or not torch.isfinite(score):
            return bool(torch.isfinite(score))
        if score == self.score:
            return not loss > self.loss
        return bool(score < self.score if self.mode == "min" else score > self.score)
