"""Writes images with objects as COCO json, Pascal VOC xml, YOLO txt, csv or instance maps, and counts what is lost."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from datamodules.object_entries import AnnotatedImage, Segment
from visionkit.data import Split
from visionkit.listing import is_image_name
from visionkit.masks import Rle, decode_crop, encode_polygons, mask_areas, mask_polygons
from visionkit.skeleton import Skeleton
from visionkit.wording import counted


@dataclass
class Losses:
    """What the format that is written cannot hold: how many objects, by what is lost."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, number: int = 1) -> None:
        """Counts some objects."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number

    def lines(self) -> list[str]:
        """One line for each type of loss."""
        return [f"{what}: {counted(number, 'object')}" for what, number in self.counts.items()]


class Writer:
    """Writes one format.

    Args:
        out: The folder.
        classes: Classes in label order.
        losses: Counts what the format cannot hold.
        skeleton: Skeleton of the keypoints, or None.
    """

    def __init__(self, out: Path, classes: Sequence[str], losses: Losses, skeleton: Skeleton | None = None) -> None:
        self.out, self.classes, self.losses, self.skeleton = out, classes, losses, skeleton
        out.mkdir(parents=True, exist_ok=True)

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        """Writes one image and what is known of it."""
        raise NotImplementedError

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        """Writes what is written once."""

    def lose(self, entry: AnnotatedImage, what: str, outlines: bool = True, keypoints: bool = True) -> None:
        """Counts the outlines and keypoints of an entry that a format has no place for."""
        if outlines and entry.segments is not None:
            self.losses.add(f"{what} no outlines", sum(each is not None for each in entry.segments))
        if keypoints and "keypoints" in entry.more:
            self.losses.add(f"{what} no keypoints", len(entry))

    @staticmethod
    def copy(entry: AnnotatedImage, to: Path) -> None:
        """Copies the image."""
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.file, to)


class CocoWriter(Writer):
    """`annotations/instances_<split>.json` and `images/<split>/`; holds everything."""

    def __init__(self, out: Path, classes: Sequence[str], losses: Losses, skeleton: Skeleton | None = None) -> None:
        super().__init__(out, classes, losses, skeleton)
        self.images: dict[str, list[dict[str, Any]]] = {}
        self.annotations: dict[str, list[dict[str, Any]]] = {}

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "images" / split / name)
        images, annotations = self.images.setdefault(split, []), self.annotations.setdefault(split, [])
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        for k, box in enumerate(entry.boxes.tolist()):
            segment = entry.segments[k] if entry.segments is not None else None
            each: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(entry.labels[k]) + 1,
            }
            each |= {"bbox": _xywh(entry, k, box), "area": _area_of(entry, k, segment, size)}
            each |= {"iscrowd": int(entry.crowded[k])}
            if segment is not None:
                each["segmentation"] = segment
            if "keypoints" in entry.more:
                rows = entry.more["keypoints"][k].astype(float)
                each |= {"keypoints": _plain(rows.ravel()), "num_keypoints": int((rows[:, 2] > 0).sum())}
            annotations.append(each)

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        folder = self.out / "annotations"
        folder.mkdir(exist_ok=True)
        categories: list[dict[str, Any]] = [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)]
        if self.skeleton is not None:
            limbs = [[a + 1, b + 1] for a, b in self.skeleton.limbs]
            categories = [
                {**each, "keypoints": list(self.skeleton.keypoints), "skeleton": limbs} for each in categories
            ]
        stem = "instances" if self.skeleton is None else "person_keypoints"
        for split in parts:
            images, annotations = self.images.get(split, []), self.annotations.get(split, [])
            whole = {"images": images, "annotations": annotations, "categories": categories}
            (folder / f"{stem}_{split}.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


class VocWriter(Writer):
    """`Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`; holds boxes, difficult for crowds."""

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "JPEGImages" / name)
        self.lose(entry, "VOC's xml holds")
        objects = "".join(
            _VOC_OBJECT.format(
                escape(self.classes[label]), int(crowd), *map(_number, (box[0] + 1, box[1] + 1, box[2], box[3]))
            )
            for label, crowd, box in zip(entry.labels, entry.crowded, entry.boxes.tolist(), strict=True)
        )
        folder = self.out / "Annotations"
        folder.mkdir(exist_ok=True)
        text = _VOC_FILE.format(escape(name), size[1], size[0], objects)
        (folder / f"{_stem(name)}.xml").write_text(text, encoding="utf-8")
        lists = self.out / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        with (lists / f"{split}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{_stem(name)}\n")


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


class YoloWriter(Writer):
    """`images/<split>/`, `labels/<split>/*.txt` and `data.yaml`; holds boxes or one outline an object."""

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "images" / split / name)
        crowded = entry.crowded
        self.losses.add("YOLO holds no crowds, so they are left out", int(crowded.sum()))
        height, width = size
        lines = []
        for k in np.flatnonzero(~crowded):
            segment = entry.segments[k] if entry.segments is not None else None
            outline = self._outline(segment)
            if outline is None:
                values = self._box(entry, int(k), size)
            else:
                values = (np.array(outline).reshape(-1, 2) / (width, height)).ravel().tolist()
            if "keypoints" in entry.more:
                values = [
                    *self._box(entry, int(k), size),
                    *(entry.more["keypoints"][k] / (width, height, 1)).ravel().tolist(),
                ]
            lines.append(f"{int(entry.labels[k])} {' '.join(map(_number, values))}\n")
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_stem(name)}.txt").write_text("".join(lines))

    @staticmethod
    def _box(entry: AnnotatedImage, k: int, size: tuple[int, int]) -> list[float]:
        x1, y1, x2, y2 = (entry.boxes[k] / (size[1], size[0], size[1], size[0])).tolist()
        return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]

    def _outline(self, segment: Segment) -> list[float] | None:
        if segment is None:
            return None
        polygons = segment if isinstance(segment, list) else mask_polygons(segment)
        if not isinstance(segment, list) and polygons:
            again = encode_polygons(polygons, (segment["size"][0], segment["size"][1]))
            self.losses.add("YOLO holds outlines without holes, so they are filled", int(again != segment))
        if len(polygons) > 1:
            self.losses.add("YOLO holds one outline per object, so its parts are joined by lines")
        return join_polygons(polygons) if polygons else None

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        lines = ["path: .", *(f"{split}: images/{split}" for split in parts)]
        if self.skeleton is not None:
            lines += [f"kpt_shape: [{len(self.skeleton)}, 3]", f"flip_idx: {list(self.skeleton.flip_indices)}"]
            lines += [f"kpt_names: {{0: {json.dumps(list(self.skeleton.keypoints), ensure_ascii=False)}}}"]
        # In quotes: no, 1e3 and 12:30 are no text for every reader of yaml.
        names = (f"  {k}: {json.dumps(name, ensure_ascii=False)}" for k, name in enumerate(self.classes))
        (self.out / "data.yaml").write_text("\n".join([*lines, "names:", *names, ""]), encoding="utf-8")


class CsvWriter(Writer):
    """`boxes.csv` and `images/<split>/`; holds boxes and crowds."""

    def __init__(self, out: Path, classes: Sequence[str], losses: Losses, skeleton: Skeleton | None = None) -> None:
        super().__init__(out, classes, losses, skeleton)
        self.rows: list[list[Any]] = [["path", "label", "xmin", "ymin", "xmax", "ymax", "iscrowd", "split"]]

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        path = f"images/{split}/{name}"
        self.copy(entry, self.out / path)
        self.lose(entry, "csv holds")
        for label, crowd, box in zip(entry.labels, entry.crowded, entry.boxes.tolist(), strict=True):
            self.rows.append([path, self.classes[label], *map(_number, box), int(crowd), split])
        if not len(entry):
            self.rows.append([path, "", "", "", "", "", "", split])

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        with (self.out / "boxes.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(self.rows)


class MapWriter(Writer):
    """`<split>/images/` and `<split>/labels/*.png`, 16 bits, k for object k; holds outlines of one class."""

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / split / "images" / name)
        self.lose(entry, "instance maps hold", outlines=False)
        crowded = entry.crowded
        self.losses.add("instance maps hold no crowds, so they are left out", int(crowded.sum()))
        if len(self.classes) > 1:
            self.losses.add("instance maps hold objects of one class", int((~crowded).sum()))
        values = np.zeros(size, dtype=np.uint16)
        segments = entry.segments or [None] * len(entry)
        drawn: list[Rle] = []
        for k in np.flatnonzero(~crowded):
            segment = segments[k]
            if segment is None:
                self.losses.add("instance maps hold outlines, so boxes without one are painted whole")
                x1, y1, x2, y2 = entry.boxes[k].tolist()
                segment = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            drawn.append(encode_polygons(segment, size) if isinstance(segment, list) else segment)
        areas = mask_areas(drawn)
        for number, k in enumerate(np.argsort(-areas, kind="stable"), start=1):  # small objects on top of large ones
            x1, y1, x2, y2, crop = decode_crop(drawn[k])
            values[y1:y2, x1:x2][crop] = number
        there = np.bincount(values.ravel(), minlength=len(drawn) + 1)[1 : len(drawn) + 1]
        self.losses.add(
            "instance maps hold one object per pixel, so others are cut", int((there < np.sort(areas)[::-1]).sum())
        )
        folder = self.out / split / "labels"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / f"{_stem(name)}.png")


WRITERS: dict[str, type[Writer]] = {
    "coco": CocoWriter,
    "voc": VocWriter,
    "yolo": YoloWriter,
    "csv": CsvWriter,
    "maps": MapWriter,
}


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


def _xywh(entry: AnnotatedImage, k: int, box: Sequence[float]) -> list[float]:
    """x, y, width, height; as a COCO file had them, where the box was not clipped."""
    given = entry.more.get("file_xywh")
    sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    if given is None:
        return sides
    x, y, w, h = given[k].tolist()
    return [x, y, w, h] if [x, y, x + w, y + h] == list(box) else sides


def _plain(values: np.ndarray) -> list[float]:
    return [int(value) if value == int(value) else round(float(value), 4) for value in values]


def _stem(name: str) -> str:
    """Of an image's name; one without a known ending keeps all of it."""
    return Path(name).stem if is_image_name(name) else name


def _area_of(entry: AnnotatedImage, k: int, segment: Segment, size: tuple[int, int]) -> float:
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
