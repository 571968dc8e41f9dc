"""Logits to probabilities, probabilities to predictions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visionkit.predictions import Classification


def probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """(B, K) logits to (B, K) float32 probabilities: softmax, or a sigmoid each where several labels may hold."""
    logits = logits.float()
    return logits.sigmoid() if multilabel else logits.softmax(dim=-1)


def to_predictions(values: Tensor, classes: Sequence[str], multilabel: bool, threshold: float) -> list[Classification]:
    """(B, K) probabilities to one prediction per image."""
    names = tuple(classes)
    return [Classification(names, row, multilabel, threshold) for row in values.float().cpu().numpy()]
