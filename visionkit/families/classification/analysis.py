"""What is wrong with predicted classes, image by image and over a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import LISTED, Analysis, Case, Row, Tables
from visionkit.analysis.calibration import CALIBRATION, calibration_rows
from visionkit.run_report.charts import Chart

_LEAST = 1e-12


class ClassificationAnalysis(Analysis):
    """The probability of the true class of each image, the most confident errors, and how probabilities are calibrated.

    Args:
        classes: K class names.
        multilabel: Several classes may hold at once.
    """

    def __init__(self, classes: Sequence[str], multilabel: bool = False) -> None:
        super().__init__()
        self.classes, self.multilabel = tuple(classes), multilabel
        self._claims: list[tuple[np.ndarray, np.ndarray]] = []
        self._threshold = 0.5  # that of the predictions, once there is one

    def row(self, case: Case) -> Row:
        """Truth, prediction, whether they agree, the loss, and the probability of what is true or of what is claimed.

        The loss is the cross-entropy; for several labels the mean over the classes of the binary one.
        """
        prediction: Any = case.prediction
        probabilities = np.asarray(prediction.probabilities, dtype=np.float64)
        labels = np.asarray(case.target["labels"])
        row: Row = dict(prediction.row(case.truth))
        if self.multilabel:
            held = labels > 0
            self._threshold = prediction.threshold
            self._claims.append((probabilities, held))
            right = np.where(held, probabilities, 1 - probabilities)
            wrong = held != (probabilities >= prediction.threshold)
            return {
                **row,
                "loss": float(-np.log(right.clip(_LEAST)).mean()),
                "wrong labels": float(wrong.sum()),
                **({"confidence of the error": float((1 - right)[wrong].max())} if wrong.any() else {}),
            }
        true = int(labels)
        best = int(probabilities.argmax())
        self._claims.append((probabilities[best : best + 1], np.array([best == true])))
        return {
            **row,
            "truth": self.classes[true],
            "correct": best == true,
            "probability of the truth": float(probabilities[true]),
            "loss": float(-np.log(max(probabilities[true], _LEAST))),
            **({"confidence of the error": float(probabilities[best])} if best != true else {}),
        }

    def badness(self, row: Mapping[str, Any]) -> float | None:
        return float(row["loss"])

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        return row.get("confidence of the error")

    def values(self, images: np.ndarray) -> dict[str, float]:
        """The fraction that is right, and the mean loss."""
        means = super().values(images)
        return {name: means[name] for name in ("correct", "loss", "wrong labels") if name in means}

    def tables(self) -> Tables:
        wrong = [row for row in self.rows if "confidence of the error" in row]
        wrong.sort(key=lambda row: -float(row["confidence of the error"]))
        return {
            "error breakdown": self._pairs(wrong),
            "most confident errors": [dict(row) for row in wrong[:LISTED]],
            "calibration": self._calibration(),
        }

    def charts(self) -> dict[str, Chart]:
        return {"calibration": CALIBRATION}

    def _pairs(self, wrong: Sequence[Row]) -> list[dict[str, Any]]:
        """Which class is taken for which, the most frequent first, with its fraction of all errors."""
        if self.multilabel:
            return self._labels()
        counts = Counter((str(row["truth"]), str(row["prediction"])) for row in wrong)
        return [
            {"truth": truth, "prediction": prediction, "count": count, "of all errors": count / len(wrong)}
            for (truth, prediction), count in counts.most_common(LISTED)
        ]

    def _labels(self) -> list[dict[str, Any]]:
        """How often each class is claimed wrongly and missed."""
        claimed = np.array([probabilities >= self._threshold for probabilities, _ in self._claims])
        held = np.array([held for _, held in self._claims])
        rows = [
            {"class": name, "claimed wrongly": int(more), "missed": int(less), "images": int(number)}
            for name, more, less, number in zip(
                self.classes,
                (claimed & ~held).sum(axis=0),
                (~claimed & held).sum(axis=0),
                held.sum(axis=0),
                strict=True,
            )
        ]
        return sorted(rows, key=lambda row: -row["claimed wrongly"] - row["missed"])

    def _calibration(self) -> list[dict[str, Any]]:
        """The reliability diagram: how often claims of a probability hold."""
        if not self._claims:
            return []
        confidence, right = (np.concatenate(part) for part in zip(*self._claims, strict=True))
        return calibration_rows(confidence, right)
