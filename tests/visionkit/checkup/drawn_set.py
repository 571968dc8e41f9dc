"""A small drawn set for every reader, copied for each fault that is planted into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.coco import CocoData
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.csv_labels import CsvData
from datamodules.depth_folders import DepthFolderData
from datamodules.folders import FolderData
from datamodules.identities import IdentityData
from datamodules.pair_scenes import PairSceneData
from datamodules.restoration import RestorationData
from datamodules.segmentation import LabelMapData
from datamodules.super_resolution import SuperResolutionData
from visionkit.data import Split, VisionDataModule
from visionkit.images import ImageSource
from visionkit.synthetic import ClipSettings
from visionkit.synthetic.files import write_scenes
from visionkit.types import Sample

NONE: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0}
SIZE = (64, 80)


class DrawnSet:
    """A written set and what faults do to it.

    Args:
        root: Its folder.
        seed: Of the choices.
    """

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root, self.rng = root, np.random.default_rng(seed)
        self.touched: set[str] = set()

    def pick(self, pattern: str) -> Path:
        """One of the files that a pattern finds."""
        files = sorted(self.root.glob(pattern))
        return files[int(self.rng.integers(len(files)))]

    def image(self, path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.array(image)

    def save(self, path: Path, array: np.ndarray, **options: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path, **options)

    def coco(self, change: Callable[[dict[str, Any]], Any], split: str = "train", kind: str = "instances") -> None:
        """Changes a COCO file."""
        path = self.root / "annotations" / f"{kind}_{split}.json"
        whole = json.loads(path.read_text("utf-8"))
        change(whole)
        path.write_text(json.dumps(whole), encoding="utf-8")

    def annotation(self, change: Callable[[dict[str, Any]], Any], kind: str = "instances") -> None:
        """Changes one annotation of training, the largest one, so that a change is no matter of rounding."""

        def changed(whole: dict[str, Any]) -> None:
            change(max(whole["annotations"], key=lambda each: each["area"]))

        self.coco(changed, kind=kind)

    def boxes(self, split: str, numbers: Sequence[int]) -> None:
        """Adds boxes at random places, as many of each of the first classes as `numbers` has."""

        def changed(whole: dict[str, Any]) -> None:
            height, width = SIZE
            for category, number in enumerate(numbers, start=1):
                for _ in range(number):
                    w, h = self.rng.uniform(8, 30, 2)
                    box = [self.rng.uniform(0, width - w), self.rng.uniform(0, height - h), w, h]
                    image = int(self.rng.integers(len(whole["images"]))) + 1
                    one = {"image_id": image, "category_id": category, "bbox": [*map(float, box)], "area": float(w * h)}
                    whole["annotations"].append({**one, "id": len(whole["annotations"]) + 1, "iscrowd": 0})

        self.coco(changed, split)

    # ------------------------------------------------------------------ readers

    def folders(self, **more: Any) -> VisionDataModule:
        return FolderData(str(self.root / "classification"), cache_mb=0, **NONE, **more)

    def table(self) -> VisionDataModule:
        return CsvData(str(self.root / "labels.csv"), cache_mb=0, **NONE)

    def objects(self) -> VisionDataModule:
        return CocoData(str(self.root), images="images/{split}", cache_mb=0, **NONE)

    def people(self) -> VisionDataModule:
        return CocoKeypointData(str(self.root), images="images/{split}", cache_mb=0, **NONE)

    def label_maps(self) -> VisionDataModule:
        return LabelMapData(str(self.root), cache_mb=0, **NONE)

    def depth(self) -> VisionDataModule:
        return DepthFolderData(str(self.root), val_every=0, cache_mb=0)

    def faces(self) -> VisionDataModule:
        return IdentityData(str(self.root / "faces"), cache_mb=0, min_images=1, **NONE)

    def resolutions(self) -> VisionDataModule:
        low = self.root / "low_res"
        if not low.is_dir():
            for path in sorted((self.root / "high_res" / "train").iterdir()):
                with Image.open(path) as image:
                    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
                self.save(low / path.name, np.array(small))
        high = str(self.root / "high_res" / "train")
        return SuperResolutionData(high, low_res=str(low), scale=2, patch_size=16, cache_mb=0, **NONE)

    def restored(self) -> VisionDataModule:
        noisy = self.root / "noisy"
        if not noisy.is_dir():
            for path in sorted((self.root / "high_res" / "train").iterdir()):
                clean = self.image(path).astype(np.float32)
                noise = self.rng.normal(0, 25, clean.shape)
                self.save(noisy / path.name, np.clip(clean + noise, 0, 255).astype(np.uint8))
        clean = str(self.root / "high_res" / "train")
        return RestorationData(clean, degraded=str(noisy), patch_size=16, cache_mb=0, **NONE)


class GivenData(VisionDataModule):
    """Samples as they are given, by split."""

    def __init__(self, given: dict[str, list[Sample]], **base: Any) -> None:
        super().__init__(**base)
        self.given = given

    def dataset(self, split: Split) -> Sequence[Sample]:
        return GivenSamples(self.given.get(split, []))


class GivenSamples(list[Sample]):
    """Samples that state their sequences."""

    def sequences(self) -> list[str]:
        return [each.sequence for each in self]


def pairs(target: Any, change: Callable[[dict[str, Any]], Any] | None = None, **inputs: Any) -> GivenData:
    """Three pairs with their truth, of which the second one is changed."""
    data = PairSceneData(
        target=target, count=3, eval_count=3, clip=ClipSettings(size=SIZE, speed=0.03, camera_speed=0.15)
    )
    samples = [data.samples("train")[k] for k in range(3)]
    if change is not None:
        known: dict[str, Any] = {key: np.array(value) for key, value in samples[1].target.items()}
        change(known)
        samples[1] = samples[1].changed(target=known)
    if inputs:
        samples[1] = samples[1].changed(inputs=inputs["of"](dict(samples[1].inputs)))
    return GivenData({"train": samples})


def drawn(number: int, **target: Any) -> Sample:
    """A drawn image with a target."""
    from visionkit.synthetic import make_scene

    name = f"scene-{number}"
    return Sample.of(ImageSource(make_scene(5, number, SIZE).image, name), target, name)  # type: ignore[arg-type]


def write_clean(folder: Path) -> Path:
    """The clean set."""
    write_scenes(folder, 30, seed=0, size=SIZE)
    return folder


def copied(clean: Path, folder: Path, seed: int = 0) -> DrawnSet:
    """A copy of the clean set to plant a fault into."""
    return DrawnSet(Path(shutil.copytree(clean, folder / "set")), seed)
