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
"""Replicates of each set where no number is given."""


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
    return torch.from_numpy(confusions(rng, pixels_of(rng, count))), torch.zeros(count)


def pixels_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 6) pixels of each class in each image."""
    return rng.multinomial(5000, rng.dirichlet([4, 3, 2, 1, 0.5, 0.3], count))


def confusions(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """(count, 6, 6) confusion matrices of one network; its errors are its own.

    Args:
        rng: Draws them.
        pixels: Pixels of each class in each image.
    """
    right = rng.beta(6, 2, (len(pixels), 1)) * np.array([0.98, 0.95, 0.9, 0.85, 0.8, 0.7])
    spread = rng.dirichlet(np.ones(6), (len(pixels), 6))
    chance = right[:, :, None] * np.eye(6) + (1 - right)[:, :, None] * spread
    return rng.multinomial(pixels, chance / chance.sum(axis=-1, keepdims=True))


def detected(rng: np.random.Generator, count: int) -> tuple[list[Detections], list[dict[str, np.ndarray]]]:
    """Objects of three classes, of which most are found, and some that are not there."""
    true = [objects(rng) for _ in range(count)]
    return [found_objects(rng, each) for each in true], true


def objects(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The objects of an image."""
    number = 1 + rng.poisson(2)
    corner, side = rng.uniform(0, 400, (number, 2)), rng.uniform(40, 200, (number, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    return {"file_boxes": boxes, "labels": rng.integers(0, 3, number)}


def found_objects(rng: np.random.Generator, true: dict[str, np.ndarray]) -> Detections:
    """What one detector finds in an image; its errors are its own."""
    boxes, labels, more = true["file_boxes"], true["labels"], rng.poisson(1)
    side, seen = boxes[:, 2:] - boxes[:, :2], rng.random(len(boxes)) < rng.beta(8, 2)
    moved = boxes[seen] + rng.normal(0, 0.06, (int(seen.sum()), 4)) * np.tile(side[seen], 2)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    extra = rng.uniform(0, 400, (more, 2))
    all_boxes = np.concatenate([moved, np.concatenate([extra, extra + rng.uniform(40, 200, (more, 2))], axis=1)])
    scores = np.concatenate([rng.beta(5, 2, len(moved)), rng.beta(2, 5, more)])
    kinds = np.concatenate([labels[seen], rng.integers(0, 3, more)])
    return Detections(("a", "b", "c"), (600, 600), all_boxes.astype(np.float32), scores.astype(np.float32), kinds)


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


def coverage(name: str, sets: int, count: int | None = None, replicates: int = REPLICATES) -> dict[str, float]:
    """Fraction of the sets whose interval holds the value of the population, by metric.

    Args:
        name: One of `SETTINGS`.
        sets: Number of sets.
        count: Images of each; by default those of the setting.
        replicates: Replicates of each set.
    """
    build, draw, usual, population, metrics = SETTINGS[name]
    whole = build()
    whole.update(*draw(np.random.default_rng(1), population))
    truth = whole.compute()
    held = dict.fromkeys(metrics, 0)
    for seed in range(sets):
        record, values = record_of(build(), *draw(np.random.default_rng([2, seed]), count or usual))
        found = record.intervals(values, "test", replicates, seed)
        for metric in metrics:
            bounds = found.bounds[f"test/{metric}"]
            held[metric] += bounds.low <= float(truth[metric]) <= bounds.high
    return {metric: number / sets for metric, number in held.items()}


def equal_classifiers(rng: np.random.Generator, count: int) -> list[ImageRecord]:
    """Two classifiers of which each is right in four of five images."""
    labels, records = rng.integers(0, 10, count), []
    for _ in range(2):
        wrong = rng.random(count) < 0.2
        predicted = np.where(wrong, (labels + rng.integers(1, 10, count)) % 10, labels)
        scores = torch.nn.functional.one_hot(torch.from_numpy(predicted), 10) * 0.5 + 0.05
        records.append(record_of(ClassificationCounts(10), scores, torch.from_numpy(labels))[0])
    return records


def equal_segmenters(rng: np.random.Generator, count: int) -> list[ImageRecord]:
    """Two networks that segment the same images equally well."""
    pixels = pixels_of(rng, count)
    each = [torch.from_numpy(confusions(rng, pixels)) for _ in range(2)]
    return [record_of(FromCounts(6), counts, torch.zeros(count))[0] for counts in each]


def equal_detectors(rng: np.random.Generator, count: int) -> list[ImageRecord]:
    """Two detectors that are equally good on the same images."""
    true = [objects(rng) for _ in range(count)]
    return [record_of(DetectionMetrics(3), [found_objects(rng, each) for each in true], true)[0] for _ in range(2)]


EQUAL: dict[str, tuple[Callable[[np.random.Generator, int], list[ImageRecord]], int, tuple[str, ...]]] = {
    "classifiers": (equal_classifiers, 300, ("top1",)),
    "networks that segment": (equal_segmenters, 60, ("mean_iou", "pixel_accuracy")),
    "detectors": (equal_detectors, 100, ("box_ap", "box_ap50")),
}
"""Pairs of equal models, the images that they are measured on, and metrics."""


def false_positives(name: str, pairs: int, replicates: int = REPLICATES) -> dict[str, float]:
    """Fraction of pairs of equal models whose difference has a p below .05, by metric.

    Args:
        name: One of `EQUAL`.
        pairs: Number of pairs.
        replicates: Replicates of each test.
    """
    build, count, metrics = EQUAL[name]
    below = dict.fromkeys(metrics, 0)
    for seed in range(pairs):
        records = build(np.random.default_rng([3, seed]), count)
        found = {each.metric: each for each in compare(records[0], records[1], replicates, seed)}
        for metric in metrics:
            below[metric] += found[metric].p < 0.05
    return {metric: number / pairs for metric, number in below.items()}


def main() -> int:
    """Prints one line per metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400, help="sets, and pairs of models, of each setting")
    parser.add_argument("--images", type=int, help="images of each set; by default those of the setting")
    parser.add_argument("--replicates", type=int, default=REPLICATES, help="replicates of each set and test")
    parser.add_argument("--only", choices=(*SETTINGS, *EQUAL), help="one setting alone")
    given = parser.parse_args()
    sets, replicates = given.sets, given.replicates
    for name in [each for each in SETTINGS if given.only in (None, each)]:
        for metric, value in coverage(name, sets, given.images, replicates).items():
            count = given.images or SETTINGS[name][2]
            print(f"{name} of {count} images: the interval of {metric} covers {value:.1%} of {sets} sets", flush=True)
    for name in [each for each in EQUAL if given.only in (None, each)]:
        for metric, value in false_positives(name, sets, replicates).items():
            print(f"equal {name}: {metric} has p < .05 in {value:.1%} of {sets} pairs", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
