"""Logits to probabilities, probabilities to predictions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visionkit.predictions import Classification
from visionkit.uncertainty.conformal import ConformalConfig


def probabilities(logits: Tensor, multilabel: bool, temperature: float = 1.0) -> Tensor:
    """(B, K) logits to (B, K) float32 probabilities: softmax, or a sigmoid each where several labels may hold.

    Args:
        logits: Of any float type.
        multilabel: Several labels may hold.
        temperature: What the logits are divided by.
    """
    logits = logits.float() / temperature
    return logits.sigmoid() if multilabel else logits.softmax(dim=-1)


def to_predictions(
    values: Tensor,
    classes: Sequence[str],
    multilabel: bool,
    threshold: float,
    conformal: ConformalConfig | None = None,
) -> list[Classification]:
    """(B, K) probabilities to one prediction per image, with its set where the model is calibrated for sets."""
    names, rows = tuple(classes), values.float().cpu().numpy()
    if conformal is None:
        return [Classification(names, row, multilabel, threshold) for row in rows]
    coverage = 1 - conformal.alpha
    out = []
    for row, held in zip(rows, conformal.sets(rows), strict=True):
        chosen = sorted(held.nonzero()[0], key=lambda k: -row[k])
        out.append(Classification(names, row, False, threshold, tuple(names[k] for k in chosen), coverage))
    return out
