"""Losses at every pixel, by name and as weighted sums.

Dice, Jaccard and Tversky are segmentation-models-pytorch's. Its focal and Lovasz losses wait for the device in every
step, to see which pixels are ignored; ours have the same values without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError, suggest
from visionkit.types import IGNORE

Balance = Literal["none", "median", "log"]


class CrossEntropy(nn.Module):
    """Cross-entropy, the mean over pixels that are not ignored; 0 where all are.

    Args:
        smoothing: Label smoothing in [0, 1).
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, pixel_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (B, K, h, w) float.
            labels: (B, h, w) int64; 255 is ignored.
            weight: (K,) of the classes, or None.
            pixel_weight: (B, h, w), or None.
        """
        options: dict[str, Any] = {"ignore_index": IGNORE, "label_smoothing": self.smoothing}
        known = labels != IGNORE
        if pixel_weight is None and weight is None:
            total = F.cross_entropy(logits, labels, reduction="sum", **options)
            return total / known.sum().clamp(min=1)
        each = F.cross_entropy(logits, labels, weight=weight, reduction="none", **options)
        fraction = known.float() if weight is None else weight[labels * known] * known
        if pixel_weight is not None:
            each, fraction = each * pixel_weight, fraction * pixel_weight
        return each.sum() / fraction.sum().clamp(min=1e-6)


class Focal(nn.Module):
    """Focal loss (Lin et al., 2017) of each class against the rest.

    Args:
        gamma: How much less easy pixels count.
        alpha: Weight of a class's own pixels against 1 - alpha of the rest; None weighs nothing.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of a batch, see `CrossEntropy`."""
        known = (labels != IGNORE)[:, None]
        own = labels[:, None] == torch.arange(logits.shape[1], device=labels.device).view(1, -1, 1, 1)
        entropy = F.binary_cross_entropy_with_logits(logits, own.to(logits.dtype), reduction="none")
        loss = (1 - torch.exp(-entropy)).pow(self.gamma) * entropy
        if self.alpha is not None:
            loss = loss * torch.where(own, self.alpha, 1 - self.alpha)
        each = (loss * known).sum(dim=(0, 2, 3)) / known.sum().clamp(min=1)
        return each.mean() if weight is None else (each * weight).sum() / weight.sum()


class Lovasz(nn.Module):
    """Lovasz-softmax (Berman et al., 2018): a surrogate of the IoU itself, over the classes that a batch shows."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch, see `CrossEntropy`."""
        classes = logits.shape[1]
        known = (labels != IGNORE).flatten()
        fractions = logits.softmax(dim=1).transpose(0, 1).flatten(1)
        own = (labels.flatten() == torch.arange(classes, device=labels.device)[:, None]) & known
        # An ignored pixel makes no error, so it is sorted behind all that do and adds nothing.
        errors, order = torch.sort((own.to(fractions.dtype) - fractions).abs() * known, dim=1, descending=True)
        own = own.gather(1, order)
        known = known[order]
        total = own.sum(dim=1, keepdim=True)
        intersection = total - own.cumsum(dim=1)
        union = total + (known & ~own).cumsum(dim=1)
        jaccard = 1.0 - intersection / union.clamp(min=1)
        step = torch.diff(jaccard, dim=1, prepend=torch.zeros_like(jaccard[:, :1]))
        present = (total[:, 0] > 0).to(errors.dtype)
        return ((errors * step).sum(dim=1) * present).sum() / present.sum().clamp(min=1)


def _smp(name: str) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        from segmentation_models_pytorch import losses

        kind = getattr(losses, name)
        return cast(nn.Module, kind(mode="multiclass", ignore_index=IGNORE, **options))

    return build


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "dice": _smp("DiceLoss"),
    "jaccard": _smp("JaccardLoss"),
    "tversky": _smp("TverskyLoss"),
    "focal": Focal,
    "lovasz": Lovasz,
}


class SegmentationLoss(nn.Module):
    """A weighted sum of losses.

    Args:
        classes: K.
        terms: Weight of each loss by name.
        options: Arguments of each loss by its name: `{"tversky": {"alpha": 0.3, "beta": 0.7}}`.
        balance: Class weights for cross-entropy and focal loss from the frequencies seen so far in training: `median`
            (median frequency over own; Eigen and Fergus, 2015), `log` (1 / ln(1.02 + frequency); Paszke et al., 2016),
            or `none`.
        class_weights: (K,) fixed weights in their place.

    Raises:
        UsageError: An unknown loss or argument, or weights of another number.
    """

    weight: Tensor | None
    seen: Tensor

    def __init__(
        self,
        classes: int,
        terms: Mapping[str, float],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        balance: Balance = "none",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name in (*terms, *(options or {})):
            if name not in LOSSES:
                raise UsageError(
                    f"model.losses {name!r}: allowed are {', '.join(LOSSES)}, each with its weight"
                    f"{suggest(name, LOSSES)}"
                )
        if not terms or any(value <= 0 for value in terms.values()):
            raise UsageError("model.losses: give at least one loss, each with a weight above 0")
        if class_weights is not None and balance != "none":
            raise UsageError("model.class_weights and model.class_balance: give one of them")
        if class_weights is not None and len(class_weights) != classes:
            raise UsageError(f"model.class_weights: {classes} classes need as many weights, not {len(class_weights)}")
        if balance not in ("none", "median", "log"):
            raise UsageError(f"model.class_balance {balance!r}: allowed are none, median, log")
        self.terms, self.balance = dict(terms), balance
        self.parts = nn.ModuleDict()
        for name in terms:
            try:
                self.parts[name] = LOSSES[name](**dict((options or {}).get(name, {})))
            except TypeError as error:
                raise UsageError(f"model.loss_options {name}: {error}") from None
        # Not a buffer of the checkpoint: it is configuration. What was counted is not.
        fixed = torch.tensor(class_weights, dtype=torch.float32) if class_weights else None
        self.register_buffer("weight", fixed, persistent=False)
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.float64), persistent=balance != "none")

    def count(self, labels: Tensor) -> None:
        """Counts the pixels of a training batch, for `balance`; (B, h, w) int64."""
        if self.balance != "none":
            classes = len(self.seen)
            found = torch.where(labels < classes, labels, classes).flatten()
            self.seen += torch.bincount(found, minlength=classes + 1)[:classes]

    def class_weights(self) -> Tensor | None:
        """(K,) the weights in force, or None where all count alike. A class never seen counts 1."""
        if self.balance == "none":
            return self.weight
        fraction = self.seen / self.seen.sum().clamp(min=1)
        there = fraction > 0
        if self.balance == "log":
            weights = 1 / torch.log(1.02 + fraction)
        else:
            # The median of those that are there; the others are sorted behind them.
            ordered = torch.where(there, fraction, torch.inf).sort().values
            middle = ordered.gather(0, ((there.sum() - 1).clamp(min=0) // 2)[None])
            weights = middle / fraction.clamp(min=1e-12)
        return torch.where(there, weights, 1.0).float()

    def forward(self, logits: Tensor, labels: Tensor, pixel_weight: Tensor | None = None) -> dict[str, Tensor]:
        """Each term with its weight.

        Args:
            logits: (B, K, h, w) float, at the size of the labels.
            labels: (B, h, w) int64; 255 is ignored.
            pixel_weight: (B, h, w) for cross-entropy, or None.
        """
        logits = logits.float()
        weight = self.class_weights()
        out: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            if name == "cross_entropy":
                value = part(logits, labels, weight, pixel_weight)
            elif name == "focal":
                value = part(logits, labels, weight)
            else:
                value = part(logits, labels)
            out[name] = self.terms[name] * value
        return out
