"""How often 95 % intervals hold the value of the population, and how often equal models are found different.

Draws many small test sets from made-up populations and measures each as `visionkit test --bootstrap` does:

    python -m benchmarks.interval_coverage --sets 400
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from tasks.classification.metrics import ClassificationCounts
from tasks.semantic_segmentation.metrics import SegmentationCounts
from visionkit.families.detection.coco_eval import DetectionMetrics
from visionkit.predictions import Detections
from visionkit.uncertainty.by_image import ImageRecord
from visionkit.uncertainty.comparison import compare

REPLICATES = 400
"""Replicates of each set."""


class Measured:
    """What an image record needs of a task."""

    def __init__(self, metric: Metric) -> None:
        self.metrics = metric

    def measure(self, decoded: Any, batch: Any) -> None:
        """Adds images."""
        self.metrics.update(decoded, batch["target"]["truth"])


class FromCounts(SegmentationCounts):
    """Of confusion matrices in place of label maps."""

    def update(self, predicted: torch.Tensor, truth: torch.Tensor) -> None:
        self.confusion += predicted.sum(dim=0)


def record_of(metric: Metric, decoded: Any, truth: Any) -> tuple[ImageRecord, dict[str, float]]:
    """An image record of one set, and its metrics."""
    task = Measured(metric)
    record, count = ImageRecord(task), len(decoded)
    target = {"truth": truth, **({"labels": truth} if isinstance(metric, ClassificationCounts) else {})}
    record.measure(decoded, {"target": target, "id": [str(k) for k in range(count)]})  # type: ignore[typeddict-item]
    record.close()
    values = metric.compute()
    return record, {f"test/{name}": float(value) for name, value in values.items() if value.numel() == 1}


def classified(rng: np.random.Generator, count: int, mixed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities of a classifier of ten classes, some harder than others, and labels.

    Sets have as many images of each class; where `mixed`, the number of each is random.
    """
    labels = rng.integers(0, 10, count) if mixed else np.arange(count) % 10
    logits = rng.normal(0, 1, (count, 10))
    logits[np.arange(count), labels] += 1.2 + 0.2 * labels
    return torch.from_numpy(logits * 1.5).softmax(dim=1), torch.from_numpy(labels)


def segmented(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Confusion matrices of images of six classes, the last ones rare; images differ in difficulty."""
    share = rng.dirichlet([4, 3, 2, 1, 0.5, 0.3], count)
    right = rng.beta(6, 2, (count, 1)) * np.array([0.98, 0.95, 0.9, 0.85, 0.8, 0.7])
    spread = rng.dirichlet(np.ones(6), (count, 6))
    chance = right[:, :, None] * np.eye(6) + (1 - right)[:, :, None] * spread
    cells = (share[:, :, None] * chance).reshape(count, 36)
    counts = rng.multinomial(5000, cells / cells.sum(axis=1, keepdims=True)).reshape(count, 6, 6)
    return torch.from_numpy(counts), torch.zeros(count)


def detected(rng: np.random.Generator, count: int) -> tuple[list[Detections], list[dict[str, np.ndarray]]]:
    """Objects of three classes, of which most are found, and some that are not there."""
    found, true = [], []
    for _ in range(count):
        number, more = 1 + rng.poisson(2), rng.poisson(1)
        corner, side = rng.uniform(0, 400, (number, 2)), rng.uniform(40, 200, (number, 2))
        boxes, labels = np.concatenate([corner, corner + side], axis=1), rng.integers(0, 3, number)
        seen = rng.random(number) < rng.beta(8, 2)
        moved = boxes[seen] + rng.normal(0, 0.06, (int(seen.sum()), 4)) * np.tile(side[seen], 2)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        extra = rng.uniform(0, 400, (more, 2))
        all_boxes = np.concatenate([moved, np.concatenate([extra, extra + rng.uniform(40, 200, (more, 2))], axis=1)])
        scores = np.concatenate([rng.beta(5, 2, len(moved)), rng.beta(2, 5, more)])
        kinds = np.concatenate([labels[seen], rng.integers(0, 3, more)])
        found.append(
            Detections(("a", "b", "c"), (600, 600), all_boxes.astype(np.float32), scores.astype(np.float32), kinds)
        )
        true.append({"file_boxes": boxes, "labels": labels})
    return found, true


SETTINGS: dict[str, tuple[Callable[[], Metric], Callable[..., Any], int, int, tuple[str, ...]]] = {
    "classification": (lambda: ClassificationCounts(10), classified, 300, 200_000, ("top1", "top5", "f1_macro")),
    "classification of random classes": (
        lambda: ClassificationCounts(10),
        partial(classified, mixed=True),
        300,
        200_000,
        ("top1", "top5", "f1_macro"),
    ),
    "segmentation": (lambda: FromCounts(6), segmented, 60, 20_000, ("mean_iou", "pixel_accuracy", "dice")),
    "detection": (lambda: DetectionMetrics(3), detected, 400, 6_000, ("box_ap", "box_ap50", "box_ar100")),
}


def coverage(name: str, sets: int) -> dict[str, float]:
    """Fraction of the sets whose interval holds the value of the population, by metric."""
    build, draw, count, population, metrics = SETTINGS[name]
    whole = build()
    whole.update(*draw(np.random.default_rng(1), population))
    truth = whole.compute()
    held = dict.fromkeys(metrics, 0)
    for seed in range(sets):
        record, values = record_of(build(), *draw(np.random.default_rng([2, seed]), count))
        found = record.intervals(values, "test", REPLICATES, seed)
        for metric in metrics:
            bounds = found.bounds[f"test/{metric}"]
            held[metric] += bounds.low <= float(truth[metric]) <= bounds.high
    return {metric: number / sets for metric, number in held.items()}


def false_positives(sets: int) -> float:
    """Fraction of pairs of equal classifiers whose difference in accuracy has a p below .05."""
    below = 0
    for seed in range(sets):
        rng = np.random.default_rng([3, seed])
        labels = rng.integers(0, 10, 300)
        records = []
        for _ in range(2):
            wrong = rng.random(300) < 0.2
            predicted = np.where(wrong, (labels + rng.integers(1, 10, 300)) % 10, labels)
            scores = torch.nn.functional.one_hot(torch.from_numpy(predicted), 10) * 0.5 + 0.05
            records.append(record_of(ClassificationCounts(10), scores, torch.from_numpy(labels))[0])
        found = {each.metric: each for each in compare(records[0], records[1], REPLICATES, seed)}
        below += found["top1"].p < 0.05
    return below / sets


def main() -> int:
    """Prints one line per metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400)
    sets = parser.parse_args().sets
    for name, (_, _, count, _, _) in SETTINGS.items():
        for metric, value in coverage(name, sets).items():
            print(f"{name} of {count} images: the interval of {metric} covers {value:.1%} of {sets} sets", flush=True)
    print(f"equal classifiers: p < .05 in {false_positives(sets):.1%} of {sets} pairs", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
