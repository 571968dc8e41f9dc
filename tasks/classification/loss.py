"""Losses for one label per image and for many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassificationLoss(nn.Module):
    """Cross-entropy for one label, binary cross-entropy for several.

    Args:
        multilabel: Each class is judged by itself.
        smoothing: Label smoothing in [0, 1) (Szegedy et al., 2016). For several labels, toward 0.5.
        class_weights: (K,) weight of each class, or None; for several labels the weight of its positives.
    """

    weight: Tensor | None

    def __init__(
        self, multilabel: bool = False, smoothing: float = 0.0, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.multilabel, self.smoothing = multilabel, smoothing
        # Not a buffer of the checkpoint: it is configuration, and a head may be loaded under other weights.
        weight = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of the batch.

        Args:
            logits: (B, K) float.
            labels: (B,) int64; or (B, K) float of class fractions (mixed images) or of 0 and 1 (several labels).
        """
        logits = logits.float()
        if not self.multilabel:
            return F.cross_entropy(logits, labels, weight=self.weight, label_smoothing=self.smoothing)
        soft = labels.float() * (1 - self.smoothing) + 0.5 * self.smoothing
        return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=self.weight)
