"""Overlap and accuracy from one confusion matrix of the whole set, and the match of boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from visionkit.types import IGNORE
from visionkit.uncertainty.by_image import SummedMetric

_EXACT = 1 << 23  # pixels that a histogram of float32 counts is exact for, with room to spare


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Counts pixels by class.

    Args:
        predicted: Any shape, integers; those that name no class are not counted.
        truth: The same shape; 255, and whatever else names no class, is not counted.
        classes: K.

    Returns:
        (K, K) int64 on the device of `truth`, truth by row.
    """
    if truth.device.type == "cpu" and classes <= IGNORE:
        return torch.from_numpy(_histogram(predicted.reshape(-1), truth.reshape(-1), classes))
    predicted, truth = predicted.reshape(-1).long(), truth.reshape(-1).long()
    known = (truth >= 0) & (truth < classes) & (truth != IGNORE) & (predicted >= 0) & (predicted < classes)
    # One more cell takes what does not count, so that nothing waits for the device to state how much that is.
    cells = torch.where(known, truth * classes + predicted, classes * classes)
    return torch.bincount(cells, minlength=classes * classes + 1)[:-1].view(classes, classes)


def _histogram(predicted: Tensor, truth: Tensor, classes: int) -> np.ndarray:
    """By OpenCV's histogram over two bytes, which is one pass with a table look-up a pixel."""
    import cv2

    out = np.zeros((classes, classes), dtype=np.int64)
    for a, b in zip(truth.split(_EXACT), predicted.split(_EXACT), strict=True):
        pair = [_bytes(a), _bytes(b)]
        counts = cv2.calcHist(pair, [0, 1], None, [classes, classes], [0, classes, 0, classes])
        out += counts.astype(np.int64)
    return out


def _bytes(labels: Tensor) -> np.ndarray:
    values = labels if labels.dtype == torch.uint8 else labels.to(torch.uint8)
    return values.contiguous().numpy()[None]


class SegmentationCounts(SummedMetric):
    """Everything that label maps are measured by, from counts that add up over batches and processes.

    `compute` gives `mean_iou` and `dice` (means over the classes that occur in truth or prediction), `pixel_accuracy`,
    `mean_accuracy` (mean recall over the classes that occur in the truth), `boundary_f1` (mean over the classes that
    have a boundary), and for tables `confusion`, the (K, K) counts with truth by row, and `boundary`, (K, 4). They are
    0, not NaN, where no pixel counts.

    Boundary F1 (Csurka et al., 2013): a boundary pixel is right where the other map has a boundary pixel of the same
    class within `tolerance` of the image's diagonal. Counts are of the whole set, not means over images.

    Args:
        classes: Number of classes K.
        tolerance: Fraction of the diagonal.
    """

    full_state_update = False
    higher_is_better = True

    confusion: Tensor
    boundary: Tensor

    def __init__(self, classes: int, tolerance: float = 0.0075) -> None:
        super().__init__()
        self.classes, self.tolerance = classes, tolerance
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.long), dist_reduce_fx="sum")
        # Of each class: boundary pixels predicted, those of them that are right, in the truth, those of them found.
        self.add_state("boundary", torch.zeros(classes, 4, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Adds a batch.

        Args:
            predicted: (B, h, w) integers, uint8 or int64.
            truth: (B, h, w) int64; 255 is left out.
        """
        self.confusion += confusion(predicted, truth, self.classes)
        counts = np.zeros((self.classes, 4), dtype=np.int64)
        for claimed, known in zip(predicted.cpu().numpy(), truth.cpu().numpy(), strict=True):
            counts += boundary_counts(claimed, known, self.classes, self.tolerance)
        self.boundary += torch.from_numpy(counts).to(self.boundary.device)

    def compute(self) -> dict[str, Tensor]:
        matrix = self.confusion.double()
        hits, support, claimed = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
        union = support + claimed - hits
        f1, has = boundary_f1(self.boundary)
        return {
            "mean_iou": _mean(hits / union.clamp(min=1), union > 0),
            "pixel_accuracy": (hits.sum() / matrix.sum().clamp(min=1)).float(),
            "mean_accuracy": _mean(hits / support.clamp(min=1), support > 0),
            "dice": _mean(2 * hits / (support + claimed).clamp(min=1), union > 0),
            "boundary_f1": _mean(f1, has),
            "confusion": self.confusion,
            "boundary": self.boundary,
        }


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return ((values * chosen).sum() / chosen.sum().clamp(min=1)).float()


def boundary_counts(predicted: np.ndarray, truth: np.ndarray, classes: int, tolerance: float) -> np.ndarray:
    """Boundary pixels of one image.

    Args:
        predicted: (h, w) integers.
        truth: (h, w) integers; what names no class is left out on both sides, and is no boundary of its neighbors.
        classes: K.
        tolerance: Fraction of the diagonal; at least one pixel.

    Returns:
        (K, 4) int64: boundary pixels predicted, those right, boundary pixels of the truth, those found.
    """
    import cv2

    known = (truth >= 0) & (truth < classes) & (truth != IGNORE)
    reach = max(1.0, tolerance * float(np.hypot(*truth.shape)))
    edges = [_edges(labels, known) for labels in (predicted, truth)]
    out = np.zeros((classes, 4), dtype=np.int64)
    present = np.unique(np.concatenate([predicted[edges[0]], truth[edges[1]]]))
    for number in present[present < classes]:
        claimed, real = (
            (edge & (labels == number)).astype(np.uint8) for edge, labels in zip(edges, (predicted, truth), strict=True)
        )
        for column, (these, others) in ((0, (claimed, real)), (2, (real, claimed))):
            out[number, column] = int(these.sum())
            if these.any() and others.any():
                far = cv2.distanceTransform(1 - others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                out[number, column + 1] = int((far[these > 0] <= reach).sum())
    return out


def _edges(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Known pixels beside a known pixel of another class."""
    out = np.zeros(labels.shape, dtype=bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (labels[one] != labels[other]) & known[one] & known[other]
        out[one] |= differ
        out[other] |= differ
    return out


def boundary_f1(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(K, 4) counts to (K,) F1, and (K,) bool whether the class has a boundary at all."""
    claimed, right, real, found = counts.double().unbind(dim=1)
    precision, recall = right / claimed.clamp(min=1), found / real.clamp(min=1)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-12), (claimed + real) > 0


def class_table(confusion: Tensor, boundary: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """IoU, accuracy, Dice, boundary F1 and fraction of the truth of each class, in label order.

    Args:
        confusion: (K, K) counts, truth by row.
        boundary: (K, 4) counts.
        names: K class names.
    """
    matrix = confusion.double().cpu()
    hits, support, claimed = matrix.diag(), matrix.sum(dim=1), matrix.sum(dim=0)
    f1, _ = boundary_f1(boundary.cpu())
    rows = zip(
        names,
        (hits / (support + claimed - hits).clamp(min=1)).tolist(),
        (hits / support.clamp(min=1)).tolist(),
        (2 * hits / (support + claimed).clamp(min=1)).tolist(),
        f1.tolist(),
        (support / support.sum().clamp(min=1)).tolist(),
        strict=True,
    )
    keys = ("class", "iou", "accuracy", "dice", "boundary_f1", "fraction")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def build_metrics(classes: int) -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"counts": SegmentationCounts(classes)})
