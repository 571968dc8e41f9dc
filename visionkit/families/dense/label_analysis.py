"""What is wrong with label maps, image by image and over a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import LISTED, Analysis, Case, Row, Tables
from visionkit.families.dense.label_errors import KINDS, MEANINGS, label_errors
from visionkit.run_report.charts import Bars, Chart


class LabelAnalysis(Analysis):
    """Wrong pixels by kind, and how much mean IoU rises where those of one kind are mended.

    Everything is measured in file pixels, whatever size the network has.

    Args:
        classes: K class names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        count = len(self.classes)
        self._confusion = np.zeros((count, count), dtype=np.int64)
        self._wrong = np.zeros((len(KINDS), count, count), dtype=np.int64)
        self._overlaps: list[np.ndarray] = []

    def row(self, case: Case) -> Row:
        truth: Any = case.truth
        return {} if truth is None else self.row_of(case.prediction.labels, truth.labels)  # type: ignore[attr-defined]

    def add_labels(self, name: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Takes an image of which nothing but its label maps is known.

        Args:
            name: Name of the image.
            predicted: (h, w) integers.
            truth: (h, w) integers; 255 is not counted.
        """
        self.rows.append({"image": name, **self.row_of(predicted, truth)})

    def row_of(self, predicted: np.ndarray, truth: np.ndarray) -> Row:
        """Mean IoU and accuracy of one image, and the fraction of its pixels that each kind of error takes."""
        count = len(self.classes)
        known = (truth < count) & (predicted < count) & (truth >= 0) & (predicted >= 0)
        cells = truth.astype(np.int64) * count + predicted
        kinds = label_errors(predicted, truth, count)
        confusion = np.bincount(cells[known], minlength=count**2).reshape(count, count)
        self._confusion += confusion
        pixels = max(1, int(known.sum()))
        row: Row = {}
        for number, kind in enumerate(KINDS):
            some = kinds == number + 1
            self._wrong[number] += np.bincount(cells[some], minlength=count**2).reshape(count, count)
            row[kind] = float(some.sum() / pixels)
        overlap = np.stack([confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)])
        self._overlaps.append(overlap.astype(np.int32))
        return {"mean_iou": _mean_iou(overlap), "pixel_accuracy": float(confusion.trace() / pixels), **row}

    def badness(self, row: Mapping[str, Any]) -> float | None:
        return -float(row["mean_iou"]) if row.get("mean_iou", -1) >= 0 else None

    def values(self, images: np.ndarray) -> dict[str, float]:
        """Mean IoU from the pixels of all of these images, and the mean fractions of the kinds of errors."""
        overlap = np.sum([self._overlaps[number].astype(np.int64) for number in images], axis=0)
        means = super().values(images)
        return {"mean_iou": _mean_iou(overlap), **{kind: means[kind] for kind in KINDS if kind in means}}

    def tables(self) -> Tables:
        if not self._overlaps:
            return {}
        before = _mean_iou(_overlap(self._confusion))
        total = max(1, int(self._confusion.sum()))
        rows = []
        for kind, wrong in zip(KINDS, self._wrong, strict=True):
            mended = self._confusion - wrong + np.diag(wrong.sum(axis=1))
            rows.append(
                {
                    "error": kind,
                    "pixels": int(wrong.sum()),
                    "of all pixels": float(wrong.sum() / total),
                    "d mean IoU": _mean_iou(_overlap(mended)) - before,
                }
            )
        return {"error breakdown": rows, "largest confusions": self._confusions()}

    def charts(self) -> dict[str, Chart]:
        return {"error breakdown": Bars("error", "d mean IoU")}

    def notes(self) -> Sequence[str]:
        return ("; ".join(f"{kind}: {meaning}" for kind, meaning in MEANINGS.items()) + ". In file pixels.",)

    def _confusions(self) -> list[dict[str, Any]]:
        """Which class is taken for which most often, with the kinds of these errors."""
        wrong = self._wrong.sum(axis=0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
        out = []
        for truth, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
            pixels = int(wrong[truth, predicted])
            if pixels:
                shares = {
                    kind: float(part[truth, predicted] / pixels) for kind, part in zip(KINDS, self._wrong, strict=True)
                }
                pair = {"truth": self.classes[truth], "prediction": self.classes[predicted], "pixels": pixels}
                out.append({**pair, **shares})
        return out


def _overlap(confusion: np.ndarray) -> np.ndarray:
    return np.stack([confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)])


def _mean_iou(overlap: np.ndarray) -> float:
    """Mean over the classes that occur, of (3, K) right, true and predicted pixels; -1 without any."""
    right, true, predicted = overlap.astype(np.float64)
    union = true + predicted - right
    seen = union > 0
    return float((right[seen] / union[seen]).mean()) if seen.any() else -1.0
