"""What is wrong with found boxes or masks, image by image and over a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import LISTED, Analysis, Case, Row, Tables
from visionkit.analysis.calibration import CALIBRATION, calibration_rows
from visionkit.analysis.collected import WORST, Ranked
from visionkit.families.detection.coco_eval import (
    COUNTED,
    RECALL_POINTS,
    Flat,
    box_pairs,
    confusion_matrix,
    evaluate,
    flatten,
    image_objects,
    mask_pairs,
)
from visionkit.families.detection.coco_eval.accumulate import Overlaps
from visionkit.families.detection.coco_eval.metric import LARGEST_CONFUSION_TABLE, ImageObjects, Kind
from visionkit.families.detection.error_breakdown import (
    BACKGROUND,
    FOREGROUND,
    MEANINGS,
    RIGHT,
    WRONG,
    ErrorBreakdown,
    break_down,
)
from visionkit.images import ImageSource
from visionkit.masks import MaskSet
from visionkit.predictions.detections import Detections, Instances
from visionkit.run_report.charts import Bars, Chart, Curves
from visionkit.types import Sample

NOTE = (
    f"Errors by TIDE (Bolya et al., 2020) at IoU {FOREGROUND:g}, background up to {BACKGROUND:g}. dAP is by how much "
    "AP50 rises where an oracle mends the errors of one kind alone, so the kinds do not add up."
)


class DetectionAnalysis(Analysis):
    """TIDE's kinds of errors of boxes or masks, and the highest-scoring of them.

    Args:
        classes: K class names.
        masks: Objects overlap by their masks, not by their boxes.
        most: Objects of an image and class that count.
    """

    def __init__(self, classes: Sequence[str], masks: bool = False, most: int = COUNTED) -> None:
        super().__init__()
        self.classes, self.most = tuple(classes), most
        self.kind: Kind = "mask" if masks else "box"
        self._images: list[ImageObjects] = []
        self._flat: tuple[Flat, Flat] | None = None
        self._shown_from: float | None = None

    def row(self, case: Case) -> Row:
        """F1 of the objects shown, how many are right, the errors among them, and what the prediction states."""
        prediction: Any = case.prediction
        image = image_objects(prediction, case.target, self.kind == "mask")
        self._images.append(image)
        self._flat = None
        objects = flatten([image], self.kind)
        shown = image_rows(*objects, 1, len(self.classes), self._overlaps, prediction.threshold)
        return {**shown[0], **prediction.row(case.truth)}

    def take(self, names: Sequence[str], found: Flat, true: Flat, threshold: float) -> None:
        """Takes all images at once, of which nothing but their objects is known.

        Args:
            names: Names of the images.
            found: What was found in them.
            true: What there is.
            threshold: Score from which an object is shown.
        """
        rows = image_rows(found, true, len(names), len(self.classes), self._overlaps, threshold)
        self.rows = [{"image": name, **row} for name, row in zip(names, rows, strict=True)]
        self._flat, self._shown_from = (found, true), threshold

    def badness(self, row: Mapping[str, Any]) -> float | None:
        """Low F1 first; of equal ones more errors."""
        errors = sum(row[name] for name in (*WRONG, "missed"))
        return float(1 - row["f1"] + 1e-4 * errors)

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        return row.get("highest wrong score")

    def values(self, images: np.ndarray) -> dict[str, float]:
        """AP and AP50 of some images, and the mean of their F1."""
        found, true = (flat.take(np.flatnonzero(np.isin(flat.image, images))) for flat in self._all)
        scores = evaluate(found, true, len(self.classes), self._overlaps, self.most).numbers()
        means = super().values(images)
        return {"ap": scores["ap"], "ap50": scores["ap50"], "f1": means.get("f1", -1.0)}

    def worst(self, source: Callable[[int], ImageSource], most: int = WORST) -> list[Ranked]:
        """The worst of the images that were taken at once, to be drawn.

        Args:
            source: Opens an image by its number.
            most: Number of images.
        """
        values = np.array([self.badness(row) for row in self.rows], dtype=np.float64)
        out = []
        for number in np.argsort(-values, kind="stable")[:most].tolist():
            image = source(number)
            found, true = (flat.take(np.flatnonzero(flat.image == number)) for flat in self._all)
            target: Any = {"boxes": true.boxes, "labels": true.labels}
            objects = self.classes, image.size, found.boxes, found.scores, found.labels, self._shown_from or 0.0
            prediction = Detections(*objects)
            if self.kind == "mask":
                target["masks"] = MaskSet(image.size, list(true.masks))
                prediction = Instances(*objects, tuple(found.masks))
            row = self.rows[number]
            sample = Sample.of(image, target, str(row["image"]))
            out.append(Ranked(float(values[number]), number, sample, prediction, row))
        return out

    def tables(self) -> Tables:
        if not self.rows:
            return {}
        found, true = self._all
        whole = break_down(found, true, len(self.classes), self._overlaps, most=self.most)
        return {
            "error breakdown": whole.rows(),
            "most confident errors": self._confident(whole, true),
            "calibration": self._calibration(whole),
            **(self._curves(found, true, self._shown_from) if self._shown_from is not None else {}),
        }

    def charts(self) -> dict[str, Chart]:
        return {
            "error breakdown": Bars("error", "dAP"),
            "calibration": CALIBRATION,
            "precision-recall": Curves("recall", "precision"),
        }

    def notes(self) -> Sequence[str]:
        return (NOTE, "; ".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items()) + ".")

    @property
    def _overlaps(self) -> Any:
        return mask_pairs if self.kind == "mask" else box_pairs

    @property
    def _all(self) -> tuple[Flat, Flat]:
        """What was found in all images, and what there is."""
        if self._flat is None:
            self._flat = flatten(self._images, self.kind)
        return self._flat

    def _curves(self, found: Flat, true: Flat, threshold: float) -> Tables:
        """What a task's own metrics give otherwise: precision over recall at IoU .5, and the confusion matrix."""
        count = len(self.classes)
        curves = evaluate(found, true, count, self._overlaps, self.most, np.array([FOREGROUND])).precision[0, :, :, 0]
        precision: list[dict[str, Any]] = [
            {"recall": round(float(recall), 2), **dict(zip(self.classes, row, strict=True))}
            for recall, row in zip(RECALL_POINTS, curves.tolist(), strict=True)
        ]
        if count > LARGEST_CONFUSION_TABLE:
            return {"precision-recall": precision}
        names = [*self.classes, "nothing"]
        cells = confusion_matrix(found, true, count, self._overlaps, threshold).tolist()
        matrix = [{"truth": name, **dict(zip(names, row, strict=True))} for name, row in zip(names, cells, strict=True)]
        return {"precision-recall": precision, "confusion": matrix}

    @staticmethod
    def _calibration(whole: ErrorBreakdown) -> list[dict[str, Any]]:
        """How often objects of a score are right."""
        counted = ~whole.is_kind("ignored")
        return calibration_rows(whole.found.scores[counted], whole.is_kind(RIGHT)[counted])

    def _confident(self, whole: ErrorBreakdown, true: Flat) -> list[dict[str, Any]]:
        wrong = np.flatnonzero(~(whole.is_kind(RIGHT) | whole.is_kind("ignored")))
        rows = wrong[np.argsort(-whole.found.scores[wrong], kind="stable")][:LISTED]
        return [
            {
                "image": self.rows[int(whole.found.image[row])]["image"],
                "class": self.classes[whole.found.labels[row]],
                "score": float(whole.found.scores[row]),
                "error": whole.names[whole.kind[row]],
                "truth": self.classes[true.labels[whole.true[row]]] if whole.true[row] >= 0 else "nothing",
                "overlap": float(whole.overlap[row]),
                "box": ", ".join(f"{side:.0f}" for side in whole.found.boxes[row]),
            }
            for row in rows.tolist()
        ]


def image_rows(
    found: Flat, true: Flat, images: int, classes: int, overlaps: Overlaps, threshold: float
) -> list[dict[str, Any]]:
    """The errors of each image among the objects that are shown.

    Args:
        found: Objects found.
        true: Objects there are.
        images: Number of images.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        threshold: Score from which an object is shown.

    Returns:
        For each image `f1`, the number of objects that are `right`, that of each kind of error, and the `highest wrong
        score`, where anything is wrong.
    """
    shown = break_down(
        found.take(np.flatnonzero(found.scores >= np.float32(threshold))), true, classes, overlaps, most=len(found) + 1
    )
    counts = {name: np.bincount(shown.found.image[shown.is_kind(name)], minlength=images) for name in (RIGHT, *WRONG)}
    counts["missed"] = np.bincount(true.image[shown.missed], minlength=images)
    crowd = true.crowd if len(true.crowd) else np.zeros(len(true), dtype=bool)
    objects = np.bincount(true.image[~crowd], minlength=images)
    claimed = sum(counts[name] for name in (RIGHT, *WRONG))
    f1 = np.where(objects + claimed > 0, 2 * counts[RIGHT] / np.maximum(objects + claimed, 1), 1.0)
    highest = np.full(images, -np.inf)
    wrong = ~(shown.is_kind(RIGHT) | shown.is_kind("ignored"))
    np.maximum.at(highest, shown.found.image[wrong], shown.found.scores[wrong])
    return [
        {
            "f1": float(f1[k]),
            **{name: int(values[k]) for name, values in counts.items()},
            **({"highest wrong score": float(highest[k])} if np.isfinite(highest[k]) else {}),
        }
        for k in range(images)
    ]
