"""Accuracy, F1, calibration and the tables behind them, from one pass over the decoded probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities import dim_zero_cat

from tasks.classification.precision_recall import PrecisionRecall
from visionkit.confusion import LARGEST_TABLE

CALIBRATION_BINS = 15


class ClassificationCounts(Metric):
    """Everything that one label a picture is measured by, from counts that add up over batches and processes.

    One bincount into a confusion matrix and one into the calibration bins: a few operations a batch instead of a chain
    of metrics that each look at the scores again, and nothing that grows with the number of pictures.

    `compute` gives `top1`, `top5` (with more than five classes), `f1_macro` (classes that never occur in truth or
    prediction are left out), `calibration_error` (expected, 15 equal bins of the top probability; Guo et al., 2017) and
    `confusion`, the (K, K) counts with truth by row.

    Args:
        classes: Number of classes K.
    """

    full_state_update = False
    higher_is_better = True

    confusion: Tensor
    top5_hits: Tensor
    bins: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("top5_hits", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        # Per bin: pictures, hits, sum of the top probability.
        self.add_state("bins", torch.zeros(CALIBRATION_BINS, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities: (B, K) float32.
            labels: (B,) int64.
        """
        confidence, predicted = probabilities.max(dim=1)
        cells = torch.bincount(labels * self.classes + predicted, minlength=self.classes**2)
        self.confusion += cells.view(self.classes, self.classes)
        if self.classes > 5:
            # Rank of the true class; ties count against it, so a constant output earns nothing.
            truth = probabilities.gather(1, labels[:, None])
            above = (probabilities > truth).sum(dim=1)
            ties = (probabilities == truth).sum(dim=1) - 1
            self.top5_hits += (above + ties < 5).sum()
        index = (confidence * CALIBRATION_BINS).ceil().long().sub_(1).clamp_(0, CALIBRATION_BINS - 1)
        hit = (predicted == labels).double()
        rows = torch.stack([torch.ones_like(hit), hit, confidence.double()], dim=1)
        self.bins.index_add_(0, index, rows)

    def compute(self) -> dict[str, Tensor]:
        matrix = self.confusion.double()
        total = matrix.sum().clamp(min=1)
        correct = matrix.diag()
        support, predicted = matrix.sum(dim=1), matrix.sum(dim=0)
        out = {"top1": (correct.sum() / total).float()}
        if self.classes > 5:
            out["top5"] = (self.top5_hits / total).float()
        present = (support + predicted) > 0
        f1 = 2 * correct / (support + predicted).clamp(min=1)
        out["f1_macro"] = (f1[present].mean() if present.any() else f1.sum()).float()
        gaps = (self.bins[:, 1] - self.bins[:, 2]).abs()
        out["calibration_error"] = (gaps.sum() / total).float()
        out["confusion"] = self.confusion
        return out


class MultilabelCounts(Metric):
    """What images with several labels are measured by.

    `compute` gives `map`, the mean over classes of average precision; `f1_macro`; and `exact_match`, the fraction of
    images of which every label is right. As scikit-learn's users do by hand, classes without a positive label have no
    average precision and are left out of the mean; F1 leaves out classes that occur in neither truth nor prediction.

    Args:
        classes: Number of classes K.
        threshold: The probability from which a label holds.
    """

    full_state_update = False
    higher_is_better = True

    probabilities: list[Tensor]
    labels: list[Tensor]

    def __init__(self, classes: int, threshold: float = 0.5) -> None:
        super().__init__()
        self.classes, self.threshold = classes, threshold
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities: (B, K) float32.
            labels: (B, K) of 0 and 1.
        """
        self.probabilities.append(probabilities)
        self.labels.append(labels.long())

    def compute(self) -> dict[str, Tensor]:
        scores, truth = dim_zero_cat(self.probabilities), dim_zero_cat(self.labels)
        positive = truth > 0
        present = positive.any(dim=0).nonzero()[:, 0]
        precisions = [binary_average_precision(scores[:, k], truth[:, k]) for k in present]
        said = scores >= self.threshold
        hits, wrong = (said & positive).sum(dim=0), (said ^ positive).sum(dim=0)
        seen = hits + wrong > 0
        f1 = 2 * hits / (2 * hits + wrong).clamp(min=1)
        return {
            "map": torch.stack(precisions).mean() if precisions else scores.new_zeros(()),
            "f1_macro": f1[seen].mean() if seen.any() else scores.new_zeros(()),
            "exact_match": (said == positive).all(dim=1).float().mean(),
        }


def class_table(confusion: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class, in label order.

    Args:
        confusion: (K, K) counts, truth by row.
        names: K class names.
    """
    matrix = confusion.double().cpu()
    correct, support, predicted = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
    return [
        {
            "class": name,
            "precision": hits / said if said else 0.0,
            "recall": hits / true if true else 0.0,
            "f1": 2 * hits / (true + said) if true + said else 0.0,
            "support": int(true),
        }
        for name, hits, true, said in zip(names, correct.tolist(), support.tolist(), predicted.tolist(), strict=True)
    ]


def build_metrics(classes: int, multilabel: bool, threshold: float = 0.5) -> MetricCollection:
    """The metrics of one split.

    Args:
        classes: Number of classes.
        multilabel: Several labels may hold.
        threshold: The probability from which they do, as it is served.
    """
    counts = MultilabelCounts(classes, threshold) if multilabel else ClassificationCounts(classes)
    curves: dict[str, Metric] = {"curves": PrecisionRecall(classes)} if classes <= LARGEST_TABLE else {}
    return MetricCollection({"counts": counts, **curves})
