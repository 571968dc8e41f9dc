"""Accuracy, F1, calibration and the tables behind them, from one pass over the decoded probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities import dim_zero_cat

from tasks.classification.precision_recall import PrecisionRecall
from tasks.classification.weighted_labels import WeightedLabels
from visionkit.confusion import LARGEST_TABLE
from visionkit.uncertainty.by_image import SummedMetric
from visionkit.uncertainty.calibration import BINS

MERGED = 64
"""Batches after which the pairs of classes that occurred are added up."""


class ClassificationCounts(SummedMetric):
    """Everything that images with one label are measured by, from counts that add up over batches and processes.

    A few operations per batch instead of a chain of metrics that each process the scores again. A matrix of all pairs
    of classes is kept up to `LARGEST_TABLE` classes; above, only the pairs that occur are, of which there are no more
    than images, and nothing of the size of K x K is ever allocated.

    `compute` gives `top1`, `top5` (with more than five classes), `f1_macro` (classes that never occur in truth or
    prediction are left out), `calibration_error` (expected, 15 equal bins of the top probability; Guo et al., 2017) and
    `confusion`, the (K, K) counts with truth by row, as a sparse tensor where there are many classes.

    Args:
        classes: Number of classes K.
    """

    full_state_update = False
    higher_is_better = True
    biased = ("calibration_error",)

    counts: Tensor
    confusion: Tensor
    pairs: list[Tensor]
    top5_hits: Tensor
    bins: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.is_sparse = classes, classes > LARGEST_TABLE
        if self.is_sparse:
            self.add_state("pairs", [], dist_reduce_fx="cat")
        else:
            self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.long), dist_reduce_fx="sum")
        # Per class: right, occurred, predicted.
        self.add_state("counts", torch.zeros(3, classes, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("top5_hits", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        # Per bin: images, hits, sum of the top probability.
        self.add_state("bins", torch.zeros(BINS, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities: (B, K) float32.
            labels: (B,) int64.
        """
        confidence, predicted = probabilities.max(dim=1)
        right = predicted == labels
        columns = (torch.where(right, labels, self.classes), labels, predicted)
        each = [torch.bincount(column, minlength=self.classes + 1)[: self.classes] for column in columns]
        self.counts += torch.stack(each)
        if self.is_sparse:
            self.pairs.append(_merged(torch.stack([labels, predicted, torch.ones_like(labels)], dim=1)))
            if len(self.pairs) >= MERGED:
                self.pairs = [_merged(torch.cat(self.pairs))]
        else:
            cells = torch.bincount(labels * self.classes + predicted, minlength=self.classes**2)
            self.confusion += cells.view(self.classes, self.classes)
        if self.classes > 5:
            # Rank of the true class; ties count against it, so a constant output earns nothing.
            truth = probabilities.gather(1, labels[:, None])
            above = (probabilities > truth).sum(dim=1)
            ties = (probabilities == truth).sum(dim=1) - 1
            self.top5_hits += (above + ties < 5).sum()
        index = (confidence * BINS).ceil().long().sub_(1).clamp_(0, BINS - 1)
        hit = right.double()
        rows = torch.stack([torch.ones_like(hit), hit, confidence.double()], dim=1)
        self.bins.index_add_(0, index, rows)

    def compute(self) -> dict[str, Tensor]:
        return {
            **self.of_image_sums(self.image_sums()),
            "confusion": self._sparse() if self.is_sparse else self.confusion,
        }

    def image_sums(self) -> dict[str, Tensor]:
        return {"counts": self.counts, "top5_hits": self.top5_hits, "bins": self.bins}

    def of_image_sums(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        correct, support, predicted = sums["counts"].double()
        total = support.sum().clamp(min=1)
        out = {"top1": (correct.sum() / total).float()}
        if self.classes > 5:
            out["top5"] = (sums["top5_hits"] / total).float()
        present = (support + predicted) > 0
        f1 = 2 * correct / (support + predicted).clamp(min=1)
        out["f1_macro"] = (f1[present].mean() if present.any() else f1.sum()).float()
        gaps = (sums["bins"][:, 1] - sums["bins"][:, 2]).abs()
        out["calibration_error"] = (gaps.sum() / total).float()
        return out

    def _sparse(self) -> Tensor:
        """The pairs of classes that occur with their counts, as a sparse (K, K) tensor."""
        # After the exchange between processes the parts are one tensor.
        parts = self.pairs if isinstance(self.pairs, list) else [self.pairs]
        rows = torch.cat([*parts, self.bins.new_zeros((0, 3), dtype=torch.long)])
        size = (self.classes, self.classes)
        return torch.sparse_coo_tensor(rows[:, :2].T, rows[:, 2], size, check_invariants=True).coalesce()


def _merged(rows: Tensor) -> Tensor:
    """Rows of truth, prediction and count with each pair once."""
    pairs, place = torch.unique(rows[:, :2], dim=0, return_inverse=True)
    counts = rows.new_zeros(len(pairs)).index_add(0, place, rows[:, 2])
    return torch.cat([pairs, counts[:, None]], dim=1)


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
        claimed = scores >= self.threshold
        hits, wrong = (claimed & positive).sum(dim=0), (claimed ^ positive).sum(dim=0)
        seen = hits + wrong > 0
        f1 = 2 * hits / (2 * hits + wrong).clamp(min=1)
        return {
            "map": torch.stack(precisions).mean() if precisions else scores.new_zeros(()),
            "f1_macro": f1[seen].mean() if seen.any() else scores.new_zeros(()),
            "exact_match": (claimed == positive).all(dim=1).float().mean(),
        }

    def resampler(self) -> WeightedLabels:
        """The same metrics of images with weights."""
        scores, truth = (dim_zero_cat(each).cpu().numpy() for each in (self.probabilities, self.labels))
        return WeightedLabels(scores, truth > 0, self.threshold)


def class_counts(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How often each class was right, occurred and was predicted; (K,) float64 each.

    Args:
        confusion: (K, K) counts, truth by row, dense or sparse.
    """
    if not confusion.is_sparse:
        matrix = confusion.double()
        return matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
    confusion = confusion.coalesce()
    (truth, predicted), counts = confusion.indices(), confusion.values().double()
    empty = counts.new_zeros(confusion.shape[0])
    right = truth == predicted
    return (
        empty.index_add(0, truth[right], counts[right]),
        empty.index_add(0, truth, counts),
        empty.index_add(0, predicted, counts),
    )


def class_table(confusion: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support of each class, in label order.

    Args:
        confusion: (K, K) counts, truth by row, dense or sparse.
        names: K class names.
    """
    correct, support, predicted = (counts.cpu() for counts in class_counts(confusion))
    return [
        {
            "class": name,
            "precision": hits / claimed if claimed else 0.0,
            "recall": hits / true if true else 0.0,
            "f1": 2 * hits / (true + claimed) if true + claimed else 0.0,
            "support": int(true),
        }
        for name, hits, true, claimed in zip(names, correct.tolist(), support.tolist(), predicted.tolist(), strict=True)
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
