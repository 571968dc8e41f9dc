"""Small real sets, ready for experiments: samples by split, the task that is trained on them, and its metric."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.augmentation import ClassificationAugment, DenseAugment, ObjectAugment, PoseAugment
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.folders import FolderData
from datamodules.instance_maps import InstanceMapData
from datamodules.scene_data import SceneData
from datamodules.segmentation import LabelMapData
from datamodules.voc import VocData
from tasks.classification.task import ClassificationTask
from tasks.detection.task import DetectionTask
from tasks.instance_segmentation.task import InstanceSegmentationTask
from tasks.pose.task import PoseTask
from tasks.semantic_segmentation.task import SemanticSegmentationTask
from visionkit.augmentation import composed
from visionkit.data import Split, VisionDataModule
from visionkit.geometry import InputSpec
from visionkit.task import VisionTask
from visionkit.types import Sample, View

CAMVID_CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "person", "bicyclist")


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
        lr: Learning rate of the head, by AdamW.
    """

    build: Callable[..., VisionTask]
    parts: Mapping[Split, Sequence[Sample]]
    data: Mapping[str, Any]
    epochs: int
    metric: str
    lr: float = 3e-3


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
    return Prepared(build, parts, {"batch_size": 32, "augment": augment}, epochs, "top1", 1e-2)


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

    parts = {split: read.samples(split) for split in splits}
    return _detection(parts, read.classes, spec, 6)


def _detection(
    parts: Mapping[Split, Sequence[Sample]], classes: Sequence[str], spec: InputSpec, epochs: int
) -> Prepared:
    def build(backbone: str, *, architecture: str = "fcos", **shared: Any) -> VisionTask:
        own = {architecture: DETECTORS[architecture]}
        return DetectionTask(backbone, architecture=architecture, classes=classes, input=spec, **own, **shared)

    return Prepared(build, parts, {"batch_size": 8, "augment": ObjectAugment()}, epochs, "box_ap50")


DETECTORS: dict[str, dict[str, Any]] = {
    "fcos": {"strides": (4, 8, 16), "extra_levels": "none", "neck_channels": 48, "convs": 1},
    "faster_rcnn": {
        "strides": (4, 8, 16),
        "neck_channels": 48,
        "hidden": 256,
        "canonical_box_size": 112,
        "anchor_scale": 4,
        "pre_nms_top_n": 300,
        "post_nms_top_n": 100,
        "train_pre_nms_top_n": 300,
        "train_post_nms_top_n": 100,
        "rpn_batch_size_per_image": 128,
        "box_batch_size_per_image": 64,
    },
    "dfine": {"size": "n", "strides": (8, 16, 32), "queries": 100},
}
"""Arguments of detectors for images of 160 pixels; D-FINE refines boxes below the stride of its maps."""


def scenes(root: Path) -> Prepared:
    """Detection in drawn scenes of 128x96 pixels: 800 of training, 200 that choose, 200 of the test part."""
    read = SceneData("boxes", count=800, eval_count=200, size=(96, 128))
    spec = InputSpec(size=(96, 128), resize_mode="letterbox")
    splits: tuple[Split, ...] = ("train", "val", "test")
    return _detection({split: read.samples(split) for split in splits}, read.classes, spec, 6)


def penn_fudan(root: Path) -> Prepared:
    """Detection of pedestrians, 160x160 pixels: every fifth image is the test part, an eighth of the others chooses."""
    spec = InputSpec(size=(160, 160), resize_mode="letterbox")
    folder = root / "instance_segmentation" / "penn_fudan136"
    read = InstanceMapData(
        str(folder), labels="masks", target="boxes", classes=["person"], input=spec, val_fraction=0.0
    )
    others, test = held_out(read.samples("train"))
    train, val = held_out(others, 8)
    return _detection({"train": train, "val": val, "test": test}, read.classes, spec, 12)


def nuclei(root: Path) -> Prepared:
    """Instance segmentation of nuclei in their own pixels, trained on parts of 192x192."""
    spec = InputSpec(size=(192, 192), resize_mode="native")
    folder = root / "instance_segmentation" / "dsb2018_nuclei"
    read = InstanceMapData(str(folder), classes=["nucleus"], input=spec, val_fraction=0.1, test_fraction=0.2)
    splits: tuple[Split, ...] = ("train", "val", "test")

    def build(backbone: str, **shared: Any) -> VisionTask:
        mask_rcnn = {
            **DETECTORS["faster_rcnn"],
            "anchor_scale": 3.5,
            "norm": "group",
            "convs": 2,
            "mask_hidden": 48,
            "mask_batch_size": 64,
            "pre_nms_top_n": 1000,
            "post_nms_top_n": 500,
        }
        return InstanceSegmentationTask(
            backbone, classes=read.classes, input=spec, max_detections=400, mask_rcnn=mask_rcnn, **shared
        )

    augment = ObjectAugment(crop_size=(192, 192), scale=(1, 1), aspect_ratio=(1, 1), quarter_turns=True)
    data = {"batch_size": 4, "eval_batch_size": 1, "augment": augment}
    return Prepared(build, {split: read.samples(split) for split in splits}, data, 12, "mask_ap50")


def camvid(root: Path) -> Prepared:
    """Segmentation of street images, its own splits, 160x128 pixels."""
    spec = InputSpec(size=(128, 160), resize_mode="letterbox")
    folder = root / "semantic_segmentation" / "camvid_subset"
    names: dict[str, Any] = {"images": "{split}", "labels": "{split}annot"}
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
"""The sets of transfer learning by name, the quickest first."""
