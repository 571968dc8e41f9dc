"""Precision over recall of every class, from counts that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

RECALL_POINTS = 101
"""Recalls 0, .01, ... 1, as COCO samples them."""

_BINS, _STEP = 512, 1 / 16
"""Scores are counted in bins of a sixteenth of a logit from -16 to 16: fine where probabilities are nearly 0 or 1."""


class PrecisionRecall(Metric):
    """One curve per class, each class against the rest.

    `compute` gives `precision_recall`, (101, K): at each recall the highest precision that reaches it, -1 for a class
    without images. Scores that share a sixteenth of a logit count as equal.

    Args:
        classes: Number of classes K.
    """

    full_state_update = False

    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("counts", torch.zeros(2, classes, _BINS, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities: (B, K) float32.
            labels: (B,) int64, or (B, K) of 0 and 1.
        """
        held = labels > 0 if labels.ndim == 2 else torch.nn.functional.one_hot(labels, self.classes) > 0
        bins = (
            ((torch.logit(probabilities.double(), eps=1e-12) / _STEP).floor() + _BINS // 2).clamp(0, _BINS - 1).long()
        )
        classes = torch.arange(self.classes, device=bins.device)
        index = (held.long() * self.classes + classes) * _BINS + bins
        self.counts += torch.bincount(index.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> dict[str, Tensor]:
        wrong, right = self.counts.flip(-1).cumsum(dim=-1).double()  # from the highest score down
        total = right[:, -1:]
        recall = right / total.clamp(min=1)
        precision = right / (right + wrong).clamp(min=1)
        best = precision.flip(-1).cummax(dim=-1).values.flip(-1)  # at this recall or a higher one
        points = torch.linspace(0, 1, RECALL_POINTS, dtype=torch.double, device=recall.device)
        at = torch.searchsorted(recall.contiguous(), points.expand(self.classes, -1).contiguous() - 1e-12)
        curve = best.gather(1, at.clamp(max=_BINS - 1))
        return {"precision_recall": torch.where(total > 0, curve, -1.0).T.float()}


def precision_recall_table(values: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per recall and one column per class.

    Args:
        values: (101, K) of `PrecisionRecall`.
        names: K class names.
    """
    return [
        {"recall": round(number / (RECALL_POINTS - 1), 2), **dict(zip(names, row, strict=True))}
        for number, row in enumerate(values.tolist())
    ]
