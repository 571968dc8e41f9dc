"""What committed experiments share: small real sets, cells that are kept as they finish, and a table with intervals.

An experiment is a matrix of cells. Each finished cell is a line of a json file, and a rerun skips those that are there.
"""

from __future__ import annotations

import atexit
import json
import math
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.augmentation import ClassificationAugment, DenseAugment, ObjectAugment, PoseAugment
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.folders import FolderData
from datamodules.segmentation import LabelMapData
from datamodules.voc import VocData
from tasks.classification.task import ClassificationTask
from tasks.detection.task import DetectionTask
from tasks.pose.task import PoseTask
from tasks.semantic_segmentation.task import SemanticSegmentationTask
from visionkit.augmentation import composed
from visionkit.data import Split, VisionDataModule
from visionkit.geometry import InputSpec
from visionkit.task import VisionTask
from visionkit.training import fit
from visionkit.types import Sample, View

CAMVID_CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "person", "bicyclist")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class Parts(VisionDataModule):
    """Samples that are listed already, by split.

    Args:
        parts: The samples of each split.
        **base: See `VisionDataModule`.
    """

    def __init__(self, parts: Mapping[Split, Sequence[Sample]], **base: Any) -> None:
        super().__init__(**base)
        self.parts = parts

    def dataset(self, split: Split) -> Sequence[Sample]:
        return self.parts[split]


class Chosen(Sequence[Sample]):
    """Some of the samples of a list, which are made when they are asked for."""

    def __init__(self, samples: Sequence[Sample], rows: Iterable[int]) -> None:
        self.samples, self.rows = samples, [int(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[self.rows[index]]


@dataclass(frozen=True)
class Prepared:
    """A set, ready for cells.

    Attributes:
        build: Makes the task from the arguments that differ between cells: backbone, pretrained, optim and others.
        parts: Samples by split: `val` is what choices are made on, `test` what is quoted.
        data: Arguments of the data module.
        epochs: Length of a training.
        metric: What is quoted, without its split.
    """

    build: Callable[..., VisionTask]
    parts: Mapping[Split, Sequence[Sample]]
    data: Mapping[str, Any]
    epochs: int
    metric: str


def some(samples: Sequence[Sample], count: int) -> Chosen:
    """A number of samples, always the same ones."""
    order = np.random.default_rng(0).permutation(len(samples))
    return Chosen(samples, sorted(order[:count]))


def held_out(samples: Sequence[Sample], every: int = 5) -> tuple[Chosen, Chosen]:
    """The samples without every fifth one, and those."""
    rows = np.arange(len(samples))
    return Chosen(samples, rows[rows % every != 0]), Chosen(samples, rows[rows % every == 0])


def _classification(
    parts: Mapping[Split, Sequence[Sample]], classes: Sequence[str], side: int, epochs: int, area: float
) -> Prepared:
    spec = InputSpec(size=(side, side), resize_mode="stretch", interpolation="bicubic")

    def build(backbone: str, **shared: Any) -> VisionTask:
        return ClassificationTask(backbone, classes=classes, input=spec, label_smoothing=0.1, **shared)

    augment = ClassificationAugment(crop="resized", area=(area, 1.0))
    return Prepared(build, parts, {"batch_size": 32, "augment": augment}, epochs, "top1")


def flowers17(root: Path) -> Prepared:
    """17 flowers: all training images, the folder `val` is the test part, a fifth of the training images chooses."""
    read = FolderData(str(root / "classification" / "flowers17"), input=InputSpec(size=(96, 96)))
    train, val = held_out(read.samples("train"))
    parts: dict[Split, Sequence[Sample]] = {"train": train, "val": val, "test": read.samples("val")}
    return _classification(parts, read.classes, 96, 6, 0.3)


def cifar10(root: Path) -> Prepared:
    """CIFAR-10 enlarged to 96 pixels: 1,000 training images, 1,000 test images."""
    read = FolderData(str(root / "classification" / "cifar10_jpg.zip"), input=InputSpec(size=(96, 96)))
    train, val = held_out(some(read.samples("train"), 1250))
    parts: dict[Split, Sequence[Sample]] = {"train": train, "val": val, "test": some(read.samples("test"), 1000)}
    return _classification(parts, read.classes, 96, 3, 0.4)


def blood_cells(root: Path) -> Prepared:
    """Crops of blood cells by their boxes: 3 classes, at most 200 of each in every split of the set."""
    read = VocData(str(root / "detection" / "bccd_voc"), input=InputSpec(size=(64, 64)))
    splits: tuple[Split, ...] = ("train", "val", "test")
    parts = {split: _crops(read.samples(split), len(read.classes), 200) for split in splits}
    return _classification(parts, read.classes, 64, 3, 0.5)


def _crops(samples: Sequence[Sample], classes: int, most: int) -> list[Sample]:
    found: list[list[Sample]] = [[] for _ in range(classes)]
    for sample in samples:
        for box, label in zip(sample.target["boxes"], sample.target["labels"], strict=True):
            x1, y1, x2, y2 = (float(value) for value in box)
            margin = 0.1 * max(x2 - x1, y2 - y1)
            if x2 - x1 > 4 and y2 - y1 > 4:
                view = View((x1 - margin, y1 - margin, x2 + margin, y2 + margin))
                made = Sample.of(sample.image, {"labels": np.int64(label)}, f"{sample.id} {len(found[label])}", view)
                found[label].append(made)
    return [each for one in found for each in some(one, most)]


def bccd(root: Path) -> Prepared:
    """Detection of blood cells, its own splits, 160x128 pixels."""
    spec = InputSpec(size=(128, 160), resize_mode="letterbox")
    read = VocData(str(root / "detection" / "bccd_voc"), input=spec)
    splits: tuple[Split, ...] = ("train", "val", "test")

    def build(backbone: str, **shared: Any) -> VisionTask:
        arguments = {"strides": (4, 8, 16), "extra_levels": "none", "neck_channels": 48, "convs": 1}
        return DetectionTask(backbone, classes=read.classes, input=spec, fcos=arguments, **shared)

    data = {"batch_size": 8, "augment": ObjectAugment()}
    return Prepared(build, {split: read.samples(split) for split in splits}, data, 6, "box_ap50")


def camvid(root: Path) -> Prepared:
    """Segmentation of street images, its own splits, 160x128 pixels."""
    spec = InputSpec(size=(128, 160), resize_mode="letterbox")
    folder = root / "semantic_segmentation" / "camvid_subset"
    names = {"images": "{split}", "labels": "{split}annot"}
    read = LabelMapData(str(folder), classes=CAMVID_CLASSES, ignore=[11], input=spec, **names)
    splits: tuple[Split, ...] = ("train", "val", "test")

    def build(backbone: str, **shared: Any) -> VisionTask:
        unet = {"channels": (64, 48, 32, 24, 16)}
        return SemanticSegmentationTask(backbone, classes=CAMVID_CLASSES, input=spec, unet=unet, **shared)

    data = {"batch_size": 8, "augment": DenseAugment()}
    return Prepared(build, {split: read.samples(split) for split in splits}, data, 16, "mean_iou")


def coco_people(root: Path) -> Prepared:
    """Keypoints of people, crops of 96x128: 1,500 of the training part; image ids that end in 0 choose, in 1 test."""
    spec = InputSpec(size=(128, 96), resize_mode="stretch")
    source = root / "pose" / "coco_val2017_person"
    labels = json.loads((source / "person_keypoints.json").read_text(encoding="utf-8"))
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # images are read when they are asked for
    (folder / "images").symlink_to(source.resolve() / "images")
    for split, digits in (("train", range(2, 10)), ("val", (0,)), ("test", (1,))):
        part = dict(labels)
        part["images"] = [each for each in labels["images"] if each["id"] % 10 in digits]
        part["annotations"] = [each for each in labels["annotations"] if each["image_id"] % 10 in digits]
        (folder / f"{split}.json").write_text(json.dumps(part), encoding="utf-8")
    crop = PoseTask("test_resnet", input=spec).crop
    read = CocoKeypointData(str(folder), labels="{split}.json", images="images", crop=crop, input=spec)
    parts: dict[Split, Sequence[Sample]] = {
        "train": some(read.samples("train"), 1500),
        "val": read.samples("val"),
        "test": read.samples("test"),
    }

    def build(backbone: str, **shared: Any) -> VisionTask:
        return PoseTask(backbone, input=spec, simple_baseline={"width": 64}, **shared)

    return Prepared(build, parts, {"batch_size": 32, "augment": composed(PoseAugment(), read.skeleton)}, 3, "pck")


SETS: dict[str, Callable[[Path], Prepared]] = {
    "blood_cells": blood_cells,
    "camvid": camvid,
    "flowers17": flowers17,
    "bccd": bccd,
    "cifar10": cifar10,
    "coco_people": coco_people,
}
"""The sets by name, the quickest first."""


def measure(
    prepared: Prepared, task: VisionTask, seed: int, *, split: Split = "test", **changes: Any
) -> dict[str, Any]:
    """Trains a task on a set and measures it once, with the weights of the last step.

    Args:
        prepared: The set.
        task: The task, built after `seed_everything`.
        seed: Seed of the training.
        split: What is measured: `test` to quote, `val` to choose. Neither is trained on.
        **changes: Replace attributes of the set, such as `epochs`.
    """
    from lightning import Trainer

    warnings.filterwarnings("ignore")
    prepared = replace(prepared, **changes)
    parts = dict(prepared.parts)
    parts["test"] = parts[split]
    data = Parts(parts, input=task.input, classes=task.classes or None, seed=seed, **prepared.data)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit(task, data, run=folder, seed=seed, max_epochs=prepared.epochs, report=False, limit_val_batches=0, **QUIET)
    seconds = time.process_time() - began
    options = {**QUIET, "enable_model_summary": False, "use_distributed_sampler": False}
    found = Trainer(**options).test(task, datamodule=data, verbose=False)[0]
    metrics = {key.removeprefix("test/"): value for key, value in found.items()}
    trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
    steps = prepared.epochs * (len(parts["train"]) // int(prepared.data["batch_size"]))
    return {
        "metric": prepared.metric,
        "value": metrics[prepared.metric],
        "seconds": round(seconds, 1),
        "steps": steps,
        "trained_parameters": trained,
        "metrics": metrics,
    }


# ---------------------------------------------------------------------- cells


def finished(path: Path) -> list[dict[str, Any]]:
    """The cells that a file of results has."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def keep(path: Path, cell: Mapping[str, Any]) -> None:
    """Adds a finished cell to the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(cell) + "\n")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN of a single value.

    Example:
        >>> interval([1.0, 2.0, 3.0])
        (2.0, 2.4841377...)
    """
    if len(values) < 2:
        return statistics.fmean(values), math.nan
    from scipy.stats import t

    return statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(
        values
    ) ** 0.5


def table(cells: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "mode") -> str:
    """A Markdown table: a row per set, a column per arm, each the mean and its interval in percent.

    Args:
        cells: Finished cells with `set`, `metric`, `value` and the arm under `title`.
        columns: Names of the arms, in order.
        title: The key of a cell that names its arm.
    """
    lines = [f"| set | metric | seeds | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for name in dict.fromkeys(cell["set"] for cell in cells):
        own = [cell for cell in cells if cell["set"] == name]
        shown, counts = [], []
        for column in columns:
            values = [100 * cell["value"] for cell in own if cell[title] == column]
            mean, half = interval(values) if values else (math.nan, math.nan)
            counts.append(len(values))
            shown.append("" if not values else f"{mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}"))
        seeds = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        lines.append(f"| {name} | {own[0]['metric']} | {seeds} | {' | '.join(shown)} |")
    return "\n".join(lines)
