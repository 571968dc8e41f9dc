"""Writes pictures with objects as COCO json, Pascal VOC xml or YOLO txt, and says what a format could not hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from xml.sax.saxutils import escape

import numpy as np
import yaml

from datamodules.coco import CocoData
from datamodules.object_entries import Entry, Segment, clean
from datamodules.objects import ObjectData
from datamodules.voc import VocData
from datamodules.yolo import YoloData
from visionkit.data import Split
from visionkit.errors import DataError, EnvironmentFault, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.masks import Rle, encode_polygons, mask_areas, mask_polygons

Format = Literal["coco", "voc", "yolo"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class Losses:
    """What the format that is written cannot hold: how many objects, by what is lost."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, number: int = 1) -> None:
        """Counts some objects."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def lines(self) -> list[str]:
        """One line for each kind of loss."""
        return [f"{what}: {number} objects" for what, number in self.counts.items()]


@dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Attributes:
        pictures: Number by split.
        objects: Number in all.
        losses: See `Losses`.
    """

    pictures: dict[str, int]
    objects: int
    losses: Losses


def open_objects(source: Path, form: Format | None = None) -> tuple[Format, ObjectData]:
    """Opens a data set of objects.

    Args:
        source: Its folder, or the yaml file of a YOLO set.
        form: Its format; found out where left out.

    Raises:
        DataError: Nothing there that looks like one of the formats.
    """
    if form is not None and form not in get_args(Format):
        raise UsageError(f"--from {form}: allowed are {', '.join(get_args(Format))}{suggest(form, get_args(Format))}")
    described = source if source.suffix in (".yaml", ".yml") else next(iter(sorted(source.glob("*.y*ml"))), None)
    if form is None:
        form = "voc" if (source / "Annotations").is_dir() else "yolo" if described is not None else "coco"
    if form == "voc":
        return form, VocData(str(source))
    if form == "yolo":
        if described is None:
            raise DataError(f"{source}: a YOLO set has a yaml file that names its parts and classes")
        return form, YoloData(str(described))
    return form, CocoData(str(source))


def convert(
    source: Path, out: Path, form: Format, given: Format | None = None, progress: Callable[[int], None] | None = None
) -> Converted:
    """Writes a data set in another format, pictures included.

    Args:
        source: See `open_objects`.
        out: A folder that is new or empty.
        form: The format to write.
        given: The format of the source; found out where left out.
        progress: Told after each picture how many are done.

    Raises:
        UsageError: The folder is not empty.
        DataError: The source cannot be read.
        EnvironmentFault: The folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: it is not an empty folder; name a new one")
    _, data = open_objects(source, given)
    parts: dict[Split, list[Entry]] = {}
    for split in SPLITS:
        entries = data.read(split)
        if entries is not None:
            parts[split] = clean(entries, f"{source}, {split}")
    losses = Losses()
    numbers: dict[str, int] = {}
    done = 0
    try:
        write = _WRITERS[form](out, data.classes, losses)
        taken: set[str] = set()
        for split, entries in parts.items():
            numbers[split] = len(entries)
            taken = taken if form == "voc" else set()  # VOC has one folder for all splits
            for entry in entries:
                write.add(split, _free_name(Path(entry.file), taken), entry, ImageSource(entry.file).size)
                done += 1
                if progress is not None:
                    progress(done)
        write.close(parts)
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error
    return Converted(numbers, sum(len(entry) for entries in parts.values() for entry in entries), losses)


def _free_name(picture: Path, taken: set[str]) -> str:
    """The picture's own name; folders that are left behind can make two of them equal."""
    name, number = picture.name, 1
    while Path(name).stem.lower() in taken:
        number += 1
        name = f"{picture.stem}-{number}{picture.suffix}"
    taken.add(Path(name).stem.lower())
    return name


class _Writer:
    """Writes one format.

    Args:
        out: The folder.
        classes: In label order.
        losses: Counts what the format cannot hold.
    """

    def __init__(self, out: Path, classes: Sequence[str], losses: Losses) -> None:
        self.out, self.classes, self.losses = out, classes, losses
        out.mkdir(parents=True, exist_ok=True)

    def add(self, split: Split, name: str, entry: Entry, size: tuple[int, int]) -> None:
        """Writes one picture and what is known of it."""
        raise NotImplementedError

    def close(self, parts: Mapping[Split, Sequence[Entry]]) -> None:
        """Writes what is written once."""

    @staticmethod
    def copy(entry: Entry, to: Path) -> None:
        """Copies the picture."""
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.file, to)


class CocoWriter(_Writer):
    """`annotations/instances_<split>.json` and `images/<split>/`; holds everything."""

    def __init__(self, out: Path, classes: Sequence[str], losses: Losses) -> None:
        super().__init__(out, classes, losses)
        self.images: dict[str, list[dict[str, Any]]] = {}
        self.annotations: dict[str, list[dict[str, Any]]] = {}

    def add(self, split: Split, name: str, entry: Entry, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "images" / split / name)
        images, annotations = self.images.setdefault(split, []), self.annotations.setdefault(split, [])
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for k, box in enumerate(entry.boxes.tolist()):
            segment = entry.segments[k] if entry.segments is not None else None
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(entry.labels[k]) + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": _area_of(entry, k, segment, size),
                    "iscrowd": int(entry.crowded[k]),
                    **({} if segment is None else {"segmentation": segment}),
                }
            )

    def close(self, parts: Mapping[Split, Sequence[Entry]]) -> None:
        folder = self.out / "annotations"
        folder.mkdir(exist_ok=True)
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)]
        for split in parts:
            images, annotations = self.images.get(split, []), self.annotations.get(split, [])
            whole = {"images": images, "annotations": annotations, "categories": categories}
            (folder / f"instances_{split}.json").write_text(json.dumps(whole))


class VocWriter(_Writer):
    """`Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`; holds boxes, difficult for crowds."""

    def add(self, split: Split, name: str, entry: Entry, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "JPEGImages" / name)
        if entry.segments is not None:
            self.losses.add("VOC's xml holds no outlines", sum(each is not None for each in entry.segments))
        objects = "".join(
            _VOC_OBJECT.format(
                escape(self.classes[label]), int(crowd), *map(_number, (box[0] + 1, box[1] + 1, box[2], box[3]))
            )
            for label, crowd, box in zip(entry.labels, entry.crowded, entry.boxes.tolist(), strict=True)
        )
        folder = self.out / "Annotations"
        folder.mkdir(exist_ok=True)
        text = _VOC_FILE.format(escape(name), size[1], size[0], objects)
        (folder / f"{Path(name).stem}.xml").write_text(text, encoding="utf-8")
        lists = self.out / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        with (lists / f"{split}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{Path(name).stem}\n")


_VOC_FILE = """<annotation>
  <filename>{}</filename>
  <size><width>{}</width><height>{}</height><depth>3</depth></size>
{}</annotation>
"""
_VOC_OBJECT = """  <object>
    <name>{}</name>
    <difficult>{}</difficult>
    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
  </object>
"""


class YoloWriter(_Writer):
    """`images/<split>/`, `labels/<split>/*.txt` and `data.yaml`; holds boxes or one outline an object."""

    def add(self, split: Split, name: str, entry: Entry, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "images" / split / name)
        crowded = entry.crowded
        self.losses.add("YOLO holds no crowds, so they are left out", int(crowded.sum()))
        height, width = size
        lines = []
        for k in np.flatnonzero(~crowded):
            segment = entry.segments[k] if entry.segments is not None else None
            outline = self._outline(segment)
            if outline is None:
                x1, y1, x2, y2 = (entry.boxes[k] / (width, height, width, height)).tolist()
                values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            else:
                values = (np.array(outline).reshape(-1, 2) / (width, height)).ravel().tolist()
            lines.append(f"{int(entry.labels[k])} {' '.join(map(_number, values))}\n")
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{Path(name).stem}.txt").write_text("".join(lines))

    def _outline(self, segment: Segment) -> list[float] | None:
        if segment is None:
            return None
        polygons = segment if isinstance(segment, list) else mask_polygons(segment)
        if not isinstance(segment, list) and polygons:
            again = encode_polygons(polygons, (segment["size"][0], segment["size"][1]))
            self.losses.add("YOLO holds outlines without holes, so they are filled", int(again != segment))
        if len(polygons) > 1:
            self.losses.add("YOLO holds one outline an object, so its parts are joined by lines")
        return join_polygons(polygons) if polygons else None

    def close(self, parts: Mapping[Split, Sequence[Entry]]) -> None:
        described: dict[str, Any] = {"path": ".", **{split: f"images/{split}" for split in parts}}
        described["names"] = dict(enumerate(self.classes))
        (self.out / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True))


_WRITERS: dict[str, type[_Writer]] = {"coco": CocoWriter, "voc": VocWriter, "yolo": YoloWriter}


def join_polygons(polygons: Sequence[Sequence[float]]) -> list[float]:
    """One closed line through several polygons, going over to the next and back where they are nearest.

    Args:
        polygons: Each x1, y1, x2, y2, ...
    """
    parts = [np.array(each, dtype=np.float64).reshape(-1, 2) for each in polygons]
    whole = parts.pop(0)
    while parts:
        # The part that is nearest to what there is comes next.
        distances = [((whole[:, None] - part[None]) ** 2).sum(axis=-1) for part in parts]
        chosen = int(np.argmin([each.min() for each in distances]))
        part = parts.pop(chosen)
        here, there = np.unravel_index(int(distances[chosen].argmin()), distances[chosen].shape)
        loop = np.concatenate([part[there:], part[: there + 1]])
        whole = np.concatenate([whole[: here + 1], loop, whole[here:]])
    return [float(value) for value in whole.ravel()]


def _area_of(entry: Entry, k: int, segment: Segment, size: tuple[int, int]) -> float:
    if entry.area is not None and np.isfinite(entry.area[k]):
        return float(entry.area[k])
    if segment is not None:
        rle: Rle = encode_polygons(segment, size) if isinstance(segment, list) else segment
        return float(mask_areas([rle])[0])
    x1, y1, x2, y2 = entry.boxes[k].tolist()
    return float((x2 - x1) * (y2 - y1))


def _number(value: float) -> str:
    """Whole numbers without a point, others with all their digits, so that nothing is lost."""
    return str(int(value)) if value == int(value) else repr(float(value))
