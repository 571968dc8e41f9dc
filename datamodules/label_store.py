"""Annotations of a folder that are read and written image by image: COCO's one json, VOC's xml or YOLO's txt files.

Unlike `datamodules.object_writers`, whose classes write a whole data set once, a store replaces the annotations of one
image at a time and gives them back, with their scores; what it writes is on the disk when a call returns.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes
from datamodules.coco import CocoFile, coco_entry, read_coco
from datamodules.coco_keypoints import annotated_keypoints
from datamodules.object_entries import AnnotatedImage
from datamodules.object_writers import (
    Losses,
    coco_categories,
    coco_name,
    coco_rows,
    stem_of,
    voc_text,
    yolo_description,
    yolo_text,
)
from datamodules.voc import parse_voc
from datamodules.yolo import yolo_entry
from datamodules.yolo_description import describe
from visionkit.atomic import write_whole
from visionkit.data import Split
from visionkit.errors import EnvironmentFault
from visionkit.skeleton import Skeleton

SPLIT: Split = "train"
"""Everything is labeled for training; a fraction for validation is split off by the data modules."""


class LabelStore(ABC):
    """The annotations of one folder.

    Args:
        out: Folder of the data set.
        classes: Classes in label order.
        skeleton: Skeleton of the keypoints, or None.
        losses: Counts what the format cannot hold.
    """

    images: Path
    """Folder of the images below `out`."""

    def __init__(self, out: Path, classes: Sequence[str], skeleton: Skeleton | None, losses: Losses) -> None:
        self.out, self.classes, self.skeleton, self.losses = out, tuple(classes), skeleton, losses

    @abstractmethod
    def content(self, name: str) -> str | None:
        """The annotations of an image as the file has them; None where it has none, which an empty list is not."""

    @abstractmethod
    def read(self, name: str) -> AnnotatedImage:
        """The annotations of an image that has some.

        Raises:
            DataError: The file was damaged or removed meanwhile.
        """

    @abstractmethod
    def put(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        """Takes the annotations of an image of that height and width, which `flush` writes; gives their digest."""

    @abstractmethod
    def flush(self) -> None:
        """Writes what was put; each file whole or not at all."""

    def digest(self, name: str) -> str | None:
        """A digest of the annotations of an image as they are on the disk; None where there are none."""
        content = self.content(name)
        return None if content is None else digest_of(content)

    def image(self, name: str) -> Path:
        """Path of the image of that name."""
        return self.out / self.images / name

    def write(self, path: Path, text: str) -> None:
        """Writes a file whole or not at all, with its folder."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text.encode())
        except OSError as error:
            raise EnvironmentFault(f"{path}: cannot be written ({error.strerror or error})") from error


class CocoStore(LabelStore):
    """`annotations/instances_train.json` and `images/train/`; the file is written whole by each `flush`."""

    images = Path("images") / SPLIT

    def __init__(self, out: Path, classes: Sequence[str], skeleton: Skeleton | None, losses: Losses) -> None:
        super().__init__(out, classes, skeleton, losses)
        self.path = out / "annotations" / coco_name(SPLIT, skeleton)
        self._stamp: tuple[int, int] | None = None
        self._pending: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        self._coco = CocoFile(self.path, [], {}, {})
        self._by_name: dict[str, dict[str, Any]] = {}

    def content(self, name: str) -> str | None:
        self._renew()
        image = self._by_name.get(name)
        return None if image is None else _content(self._coco.annotations.get(image["id"], []))

    def read(self, name: str) -> AnnotatedImage:
        self._renew()
        image = self._by_name[name]
        labels = {key: self.classes.index(each) for key, each in self._coco.categories.items() if each in self.classes}
        entry = coco_entry(self._coco, image, str(self.image(name)), labels)
        if self.skeleton is not None:
            order = list(range(len(self.skeleton)))
            keypoints = annotated_keypoints(self._coco, image, dict.fromkeys(labels, order), self.skeleton)
            entry = replace(entry, segments=None, more={**entry.more, "keypoints": keypoints})
        return entry

    def put(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        self._renew()
        ids = {each: key for key, each in self._coco.categories.items()}
        rows = [{**row, "category_id": ids[self.classes[row["category_id"] - 1]]} for row in coco_rows(entry, size)]
        facts = {"file_name": name, "height": size[0], "width": size[1], **({"reviewed": True} if reviewed else {})}
        self._pending[name] = (facts, rows)
        return digest_of(_content(rows))

    def flush(self) -> None:
        if not self._pending:
            return
        self._renew()
        coco = self._coco
        free_image = 1 + max((_number(each["id"]) for each in coco.images), default=0)
        free = 1 + max((_number(each.get("id")) for rows in coco.annotations.values() for each in rows), default=0)
        for name, (facts, rows) in self._pending.items():
            image = self._by_name.get(name)
            if image is None:
                image = self._by_name[name] = {"id": free_image}
                coco.images.append(image)
                free_image += 1
            image |= facts
            coco.annotations[image["id"]] = [
                {"id": free + number, "image_id": image["id"], **row} for number, row in enumerate(rows)
            ]
            free += len(rows)
        whole = {
            "images": coco.images,
            "annotations": [each for image in coco.images for each in coco.annotations.get(image["id"], [])],
            "categories": list(coco.details.values()),
        }
        self.write(self.path, json.dumps(whole, ensure_ascii=False))
        self._pending, self._stamp = {}, stamp_of(self.path)

    def _renew(self) -> None:
        """Reads the file again where another program has written it meanwhile."""
        stamp = stamp_of(self.path)
        if stamp == self._stamp and self._coco.categories:
            return
        if stamp is not None:
            self._coco = read_coco(self.path)
            index_classes(dict.fromkeys(self._coco.categories.values(), f"{self.path} categories"), self.classes)
            there = set(self._coco.categories.values())
            free = 1 + max(map(_number, self._coco.categories), default=0)
            for each in coco_categories(self.classes, self.skeleton):
                if each["name"] not in there:  # programs leave out categories that no object has
                    self._coco.categories[free], self._coco.details[free] = each["name"], {**each, "id": free}
                    free += 1
        else:
            details = coco_categories(self.classes, self.skeleton)
            names = {each["id"]: each["name"] for each in details}
            self._coco = CocoFile(self.path, [], names, {}, {}, {each["id"]: each for each in details})
        self._stamp = stamp
        self._by_name = {image["file_name"]: image for image in self._coco.images}


class TextStore(LabelStore):
    """Base of the stores with one file per image: a subclass names and reads it, and makes its text."""

    def __init__(self, out: Path, classes: Sequence[str], skeleton: Skeleton | None, losses: Losses) -> None:
        super().__init__(out, classes, skeleton, losses)
        self._pending: dict[str, str] = {}

    @abstractmethod
    def path(self, name: str) -> Path:
        """Path of the label file of an image."""

    @abstractmethod
    def text(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        """The label file of an image."""

    def announce(self, names: Sequence[str]) -> None:
        """Writes what lists or describes the label files, before some of them are written."""

    def content(self, name: str) -> str | None:
        return _text_of(self.path(name))

    def put(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        self._pending[name] = text = self.text(name, entry, size, reviewed)
        return digest_of(text)

    def flush(self) -> None:
        if self._pending:
            self.announce(list(self._pending))
        for name, text in self._pending.items():
            self.write(self.path(name), text)
        self._pending = {}


class VocStore(TextStore):
    """`Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/train.txt`; holds boxes."""

    images = Path("JPEGImages")

    def path(self, name: str) -> Path:
        return self.out / "Annotations" / f"{stem_of(name)}.xml"

    def read(self, name: str) -> AnnotatedImage:
        parsed = parse_voc(self.path(name))
        numbers = index_classes(dict.fromkeys(parsed.names, str(parsed.path)), self.classes)
        return AnnotatedImage(
            file=str(self.image(name)),
            place=str(parsed.path),
            boxes=parsed.boxes,
            labels=np.array([numbers[each] for each in parsed.names], dtype=np.int64),
            size=parsed.size,
            crowd=parsed.difficult,
            scores=parsed.scores,
        )

    def text(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        if entry.segments is not None:
            self.losses.add("VOC's xml holds no outlines", len(entry))
        return voc_text(name, entry, size, self.classes, reviewed)

    def announce(self, names: Sequence[str]) -> None:
        path = self.out / "ImageSets" / "Main" / f"{SPLIT}.txt"
        listed = dict.fromkeys((_text_of(path) or "").splitlines())
        new = [stem for name in names if (stem := stem_of(name)) not in listed]
        if new:
            self.write(path, "".join(f"{stem}\n" for stem in [*listed, *new]))


class YoloStore(TextStore):
    """`images/train/`, `labels/train/*.txt` and `data.yaml`; holds boxes, one outline per object, or keypoints."""

    images = Path("images") / SPLIT

    def path(self, name: str) -> Path:
        return self.out / "labels" / SPLIT / f"{stem_of(name)}.txt"

    def read(self, name: str) -> AnnotatedImage:
        return yolo_entry(self.image(name), self.path(name), describe(self.out / "data.yaml"))

    def text(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        return yolo_text(entry, size, self.losses)

    def announce(self, names: Sequence[str]) -> None:
        path = self.out / "data.yaml"
        if not path.exists():
            self.write(path, yolo_description([SPLIT], self.classes, self.skeleton, scored=True))


def digest_of(content: str) -> str:
    """A digest of the annotations of an image."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _content(rows: Sequence[Mapping[str, Any]]) -> str:
    """Annotations of a COCO file without the ids, which may be given again."""
    kept = [{key: value for key, value in each.items() if key not in ("id", "image_id")} for each in rows]
    return json.dumps(kept, sort_keys=True)


def _number(key: Any) -> int:
    """An id as a number; what is no number takes none away."""
    return key if isinstance(key, int) else 0


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Time and size of a file, by which it is seen that another program has written it; None without a file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size


def _text_of(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
