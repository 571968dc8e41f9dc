"""One function per kind of fault: it plants the fault into a drawn set and gives the data to be examined."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.visionkit.checkup.drawn_set import NONE, SIZE, DrawnSet, GivenData, drawn, pairs
from visionkit.data import VisionDataModule
from visionkit.types import Sample

Fault = Callable[[DrawnSet], VisionDataModule]
FAULTS: dict[str, Fault] = {}


def fault(kind: str) -> Callable[[Fault], Fault]:
    def register(function: Fault) -> Fault:
        FAULTS[kind] = function
        return function

    return register


# ---------------------------------------------------------------------- files of images


@fault("missing-image")
def _(s: DrawnSet) -> VisionDataModule:
    s.pick("images/train/*.jpg").unlink()
    return s.objects()


@fault("empty-file")
def _(s: DrawnSet) -> VisionDataModule:
    s.pick("images/val/*.jpg").write_bytes(b"")
    return s.objects()


@fault("unreadable-image")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return s.folders()


@fault("wrong-orientation")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("images/train/*.jpg")
    s.save(path, np.rot90(s.image(path)))
    return s.objects()


@fault("size-mismatch")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("images/train/*.jpg")
    s.save(path, s.image(path)[::2, ::2])
    return s.objects()


@fault("exif-orientation")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("images/train/*.jpg")
    exif = Image.Exif()
    exif[0x0112] = 3
    s.save(path, s.image(path), exif=exif)
    return s.objects()


@fault("wrong-file-type")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    s.save(path, s.image(path), format="PNG")
    return s.folders()


@fault("blank-image")
def _(s: DrawnSet) -> VisionDataModule:
    s.save(s.pick("classification/test/*/*.jpg"), np.full((*SIZE, 3), 128, dtype=np.uint8))
    return s.folders()


@fault("tiny-image")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    s.save(path, s.image(path)[::12, ::12])
    return s.folders()


@fault("odd-channels")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    s.save(path, s.image(path)[..., 1])
    return s.folders()


@fault("unusual-brightness")
def _(s: DrawnSet) -> VisionDataModule:
    for path in s.root.glob("classification/train/*/*.jpg"):
        s.save(path.with_suffix(".png"), s.image(path) // 16)
        path.unlink()
    return s.folders()


# ---------------------------------------------------------------------- classes and label files


@fault("unknown-class")
def _(s: DrawnSet) -> VisionDataModule:
    names = sorted(path.name for path in (s.root / "classification" / "train").iterdir())
    return s.folders(classes=[*names[:-1], f"{names[-1]}s"])


@fault("similar-classes")
def _(s: DrawnSet) -> VisionDataModule:
    folders = sorted((s.root / "classification" / "train").iterdir(), key=lambda path: len(list(path.iterdir())))
    common = next(path for path in reversed(folders) if len(path.name) >= 5)
    for number, path in enumerate(sorted(common.iterdir())):
        for copy in range(4):  # enough of the right name
            array = np.roll(s.image(path), (number + 7 * copy, 11 * copy), axis=(0, 1))
            s.save(common / f"{path.stem}-{copy}.png", array)
    wrong = common.with_name(common.name[:-2] + common.name[-1])
    wrong.mkdir()
    first = sorted(common.iterdir())[0]
    shutil.move(first, wrong / first.name)
    return s.folders()


@fault("absent-class")
def _(s: DrawnSet) -> VisionDataModule:
    names = sorted(path.name for path in (s.root / "classification" / "train").iterdir())
    return s.folders(classes=[*names, "unicorn"])


@fault("unseen-class")
def _(s: DrawnSet) -> VisionDataModule:
    def without(whole: dict[str, Any]) -> None:
        whole["annotations"] = [each for each in whole["annotations"] if each["category_id"] != 1]

    s.boxes("val", [1])
    s.coco(without)
    return s.objects()


@fault("imbalance")
def _(s: DrawnSet) -> VisionDataModule:
    s.boxes("train", [900])

    def one(whole: dict[str, Any]) -> None:
        second = [each for each in whole["annotations"] if each["category_id"] == 2]
        whole["annotations"] = [each for each in whole["annotations"] if each["category_id"] != 2 or each is second[0]]

    s.coco(one)
    return s.objects()


@fault("class-shift")
def _(s: DrawnSet) -> VisionDataModule:
    s.boxes("train", [300, 300])
    s.boxes("val", [600, 10])
    return s.objects()


@fault("conflicting-labels")
def _(s: DrawnSet) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    other = next(each for each in sorted(path.parent.parent.iterdir()) if each != path.parent)
    shutil.copy(path, other / "copy.jpg")
    return s.folders()


@fault("refused")
def _(s: DrawnSet) -> VisionDataModule:
    (s.root / "classification" / "train" / "nothing").mkdir()
    return s.folders()


@fault("broken-label")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.update(segmentation=[[1, 1, 9, 9]]))
    return s.objects()


@fault("duplicate-entry")
def _(s: DrawnSet) -> VisionDataModule:
    s.coco(lambda whole: whole["annotations"][3].update(id=whole["annotations"][2]["id"]))
    return s.objects()


@fault("missing-label")
def _(s: DrawnSet) -> VisionDataModule:
    s.pick("label_maps/train/*.png").unlink()
    return s.label_maps()


# ---------------------------------------------------------------------- maps


def _map(s: DrawnSet, folder: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = s.pick(f"{folder}/train/*.png")
    array = s.image(path)
    s.save(path, change(array).astype(array.dtype))


def _spotted(labels: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(labels.shape)
    return np.where((rows % 6 == 2) & (columns % 6 == 2), (labels.max() + 1) % 4, labels)


@fault("stray-value")
def _(s: DrawnSet) -> VisionDataModule:
    _map(s, "label_maps", lambda labels: np.where(np.indices(labels.shape)[0] < 3, 200, labels))
    return s.label_maps()


@fault("empty-label-map")
def _(s: DrawnSet) -> VisionDataModule:
    _map(s, "label_maps", lambda labels: np.full_like(labels, 255))
    return s.label_maps()


@fault("interpolated-label-map")
def _(s: DrawnSet) -> VisionDataModule:
    def mixed(labels: np.ndarray) -> np.ndarray:
        out = np.zeros_like(labels)
        out[:, 40:] = 2
        out[::3, 40] = 1  # what lies between the two
        out[1::3, 39] = 1
        return out

    _map(s, "label_maps", mixed)
    return s.label_maps()


@fault("depth-unit")
def _(s: DrawnSet) -> VisionDataModule:
    for path in s.root.glob("depth/*/*.png"):
        s.save(path, (s.image(path) // 400).astype(np.uint16))
    return s.depth()


@fault("no-depth")
def _(s: DrawnSet) -> VisionDataModule:
    _map(s, "depth", np.zeros_like)
    return s.depth()


@fault("constant-depth")
def _(s: DrawnSet) -> VisionDataModule:
    _map(s, "depth", lambda depth: np.full_like(depth, 3000))
    return s.depth()


@fault("invalid-depth")
def _(s: DrawnSet) -> VisionDataModule:
    depth = np.full(SIZE, 2.0, dtype=np.float32) + np.arange(SIZE[1], dtype=np.float32) / 50
    return GivenData({"train": [drawn(0, depth=depth), drawn(1, depth=np.where(depth > 3, -1, depth))]})


@fault("invalid-flow")
def _(s: DrawnSet) -> VisionDataModule:
    return pairs("flow", lambda t: (t["flow"].__setitem__((0, 5), np.nan), t["valid"].__setitem__(5, True)))


@fault("flow-too-long")
def _(s: DrawnSet) -> VisionDataModule:
    return pairs("flow", lambda target: target["flow"].__imul__(64))


@fault("invalid-disparity")
def _(s: DrawnSet) -> VisionDataModule:
    return pairs("disparity", lambda target: target["disparity"].__setitem__(7, -3.0))


# ---------------------------------------------------------------------- pairs


def _exchanged(folder: Path) -> None:
    first, second = sorted(folder.iterdir())[3:5]
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])


@fault("resolution-mismatch")
def _(s: DrawnSet) -> VisionDataModule:
    s.resolutions()
    _exchanged(s.root / "low_res")
    return s.resolutions()


@fault("pair-mismatch")
def _(s: DrawnSet) -> VisionDataModule:
    s.restored()
    _exchanged(s.root / "noisy")
    return s.restored()


@fault("identical-pair")
def _(s: DrawnSet) -> VisionDataModule:
    return pairs("disparity", of=lambda inputs: dict.fromkeys(inputs, next(iter(inputs.values()))))


@fault("match-contradiction")
def _(s: DrawnSet) -> VisionDataModule:
    first, second = drawn(0).image, drawn(1).image
    samples = [Sample({"first": a, "second": b}, {"match": np.int64(0)}, a.name) for a, b in ((first, second),) * 2]
    samples[1] = samples[1].changed(inputs={"first": second, "second": second}, id="equal")
    return GivenData({"train": samples})


@fault("invalid-intrinsics")
def _(s: DrawnSet) -> VisionDataModule:
    good, bad = np.array([60.0, 60.0, 40.0, 32.0]), np.array([60.0, 60.0, 640.0, 480.0])
    return GivenData({"train": [drawn(0, intrinsics=good), drawn(1, intrinsics=bad)]})


# ---------------------------------------------------------------------- identities and splits


@fault("identity-leak")
def _(s: DrawnSet) -> VisionDataModule:
    person = sorted((s.root / "faces" / "train").iterdir())[0]
    shutil.move(
        person / "000.png", (s.root / "faces" / "val" / person.name).mkdir() or f"{s.root}/faces/val/{person.name}"
    )
    return s.faces()


@fault("single-image-identity")
def _(s: DrawnSet) -> VisionDataModule:
    person = sorted((s.root / "faces" / "train").iterdir())[0]
    for path in sorted(person.iterdir())[1:]:
        path.unlink()
    return s.faces()


def _copied(s: DrawnSet, to: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> VisionDataModule:
    path = s.pick("classification/train/*/*.jpg")
    folder = s.root / "classification" / to / path.parent.name
    folder.mkdir(exist_ok=True)
    if change is None:
        shutil.copy(path, folder / "copy.jpg")
    else:
        s.save(folder / "copy.jpg", np.ascontiguousarray(change(s.image(path))), quality=60)
    return s.folders()


@fault("shared-image")
def _(s: DrawnSet) -> VisionDataModule:
    return _copied(s, "val")


@fault("duplicate-image")
def _(s: DrawnSet) -> VisionDataModule:
    return _copied(s, "train")


@fault("near-duplicate")
def _(s: DrawnSet) -> VisionDataModule:
    return _copied(s, "train", lambda image: image)


@fault("near-duplicate-across")
def _(s: DrawnSet) -> VisionDataModule:
    return _copied(s, "test", lambda image: np.clip(image * 0.9 + 4, 0, 255).astype(np.uint8))


@fault("flipped-duplicate-across")
def _(s: DrawnSet) -> VisionDataModule:
    return _copied(s, "test", lambda image: image[:, ::-1])


@fault("sequence-leak")
def _(s: DrawnSet) -> VisionDataModule:
    frames = [drawn(number).changed(sequence="street", frame=number) for number in range(4)]
    return GivenData({"train": frames[:2], "val": frames[2:]})


NEEDS_A_NETWORK = ("enlarged-images", "small-objects", "anchors-misfit")
NEEDS_FEATURES = ("similar-images",)
__all__ = ["FAULTS", "NEEDS_A_NETWORK", "NEEDS_FEATURES", "NONE"]
