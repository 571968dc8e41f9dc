"""Writes images with objects as COCO json, Pascal VOC xml, YOLO txt, csv or instance maps, and counts what is lost."""

from __future__ import annotations

import csv
import json
import math
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

    def lose(
        self, entry: AnnotatedImage, what: str, outlines: bool = True, keypoints: bool = True, scores: bool = True
    ) -> None:
        """Counts the outlines, keypoints and scores of an entry that a format has no place for."""
        if outlines and entry.segments is not None:
            self.losses.add(f"{what} no outlines", sum(each is not None for each in entry.segments))
        if keypoints and "keypoints" in entry.more:
            self.losses.add(f"{what} no keypoints", len(entry))
        if scores and entry.scores is not None:
            self.losses.add(f"{what} no scores", int(np.isfinite(entry.scores).sum()))

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
        for row in coco_rows(entry, size):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **row})

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        folder = self.out / "annotations"
        folder.mkdir(exist_ok=True)
        categories = coco_categories(self.classes, self.skeleton)
        for split in parts:
            images, annotations = self.images.get(split, []), self.annotations.get(split, [])
            whole = {"images": images, "annotations": annotations, "categories": categories}
            path = folder / coco_name(split, self.skeleton)
            path.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


def coco_name(split: Split, skeleton: Skeleton | None) -> str:
    """Name of the label file of a split."""
    return f"{'instances' if skeleton is None else 'person_keypoints'}_{split}.json"


def coco_categories(classes: Sequence[str], skeleton: Skeleton | None) -> list[dict[str, Any]]:
    """Categories of a COCO file, numbered from 1 in label order."""
    categories: list[dict[str, Any]] = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
    if skeleton is None:
        return categories
    limbs = [[a + 1, b + 1] for a, b in skeleton.limbs]
    return [{**each, "keypoints": list(skeleton.keypoints), "skeleton": limbs} for each in categories]


def coco_rows(entry: AnnotatedImage, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The objects of an image of that height and width as annotations of a COCO file, without their ids."""
    rows = []
    for k, box in enumerate(entry.boxes.tolist()):
        segment = entry.segments[k] if entry.segments is not None else None
        each: dict[str, Any] = {"category_id": int(entry.labels[k]) + 1, "bbox": _xywh(entry, k, box)}
        each |= {"area": _area_of(entry, k, segment, size), "iscrowd": int(entry.crowded[k])}
        if segment is not None:
            each["segmentation"] = segment
        if "keypoints" in entry.more:
            points = entry.more["keypoints"][k].astype(float)
            each |= {"keypoints": _plain(points.ravel()), "num_keypoints": int((points[:, 2] > 0).sum())}
        if (score := _score(entry, k)) is not None:
            each["score"] = score
        rows.append(each)
    return rows


class VocWriter(Writer):
    """`Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`; holds boxes, difficult for crowds."""

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "JPEGImages" / name)
        self.lose(entry, "VOC's xml holds", scores=False)
        folder = self.out / "Annotations"
        folder.mkdir(exist_ok=True)
        text = voc_text(name, entry, size, self.classes)
        (folder / f"{stem_of(name)}.xml").write_text(text, encoding="utf-8")
        lists = self.out / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        with (lists / f"{split}.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stem_of(name)}\n")


_VOC_FILE = """<annotation>
  <filename>{}</filename>
  <size><width>{}</width><height>{}</height><depth>3</depth></size>
{}{}</annotation>
"""
_VOC_OBJECT = """  <object>
    <name>{}</name>
    <difficult>{}</difficult>
    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>{}
  </object>
"""


def voc_text(
    name: str, entry: AnnotatedImage, size: tuple[int, int], classes: Sequence[str], reviewed: bool = False
) -> str:
    """The xml file of an image of that name, height and width; marked where a person has reviewed it."""
    objects = ""
    for k, (x1, y1, x2, y2) in enumerate(entry.boxes.tolist()):
        score = _score(entry, k)
        corners = map(_number, (x1 + 1, y1 + 1, x2, y2))
        scored = "" if score is None else f"\n    <score>{_number(score)}</score>"
        objects += _VOC_OBJECT.format(escape(classes[entry.labels[k]]), int(entry.crowded[k]), *corners, scored)
    return _VOC_FILE.format(escape(name), size[1], size[0], "  <reviewed>1</reviewed>\n" * reviewed, objects)


class YoloWriter(Writer):
    """`images/<split>/`, `labels/<split>/*.txt` and `data.yaml`; holds boxes or one outline an object."""

    def add(self, split: Split, name: str, entry: AnnotatedImage, size: tuple[int, int]) -> None:
        self.copy(entry, self.out / "images" / split / name)
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem_of(name)}.txt").write_text(yolo_text(entry, size, self.losses))

    def close(self, parts: Mapping[Split, Sequence[AnnotatedImage]]) -> None:
        scored = any(entry.scores is not None for entries in parts.values() for entry in entries)
        text = yolo_description(list(parts), self.classes, self.skeleton, scored)
        (self.out / "data.yaml").write_text(text, encoding="utf-8")


def yolo_text(entry: AnnotatedImage, size: tuple[int, int], losses: Losses) -> str:
    """The label file of an image of that height and width; counts what it cannot hold."""
    crowded = entry.crowded
    losses.add("YOLO holds no crowds, so they are left out", int(crowded.sum()))
    height, width = size
    lines = []
    for k in map(int, np.flatnonzero(~crowded)):
        outline = _outline(entry.segments[k] if entry.segments is not None else None, losses)
        x1, y1, x2, y2 = (entry.boxes[k] / (width, height, width, height)).tolist()
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        if "keypoints" in entry.more:
            values += (entry.more["keypoints"][k] / (width, height, 1)).ravel().tolist()
        elif outline is not None:
            values = (np.array(outline).reshape(-1, 2) / (width, height)).ravel().tolist()
        if (score := _score(entry, k)) is not None:
            values.append(score)
        lines.append(f"{int(entry.labels[k])} {' '.join(map(_number, values))}\n")
    return "".join(lines)


def yolo_description(splits: Sequence[Split], classes: Sequence[str], skeleton: Skeleton | None, scored: bool) -> str:
    """The yaml file of a set, whose label files may hold scores."""
    lines = ["path: .", *(f"{split}: images/{split}" for split in splits)]
    lines += ["scores: true  # a last column of label files: those of predictions"] * scored
    if skeleton is not None:
        lines += [f"kpt_shape: [{len(skeleton)}, 3]", f"flip_idx: {list(skeleton.flip_indices)}"]
        lines += [f"kpt_names: {{0: {json.dumps(list(skeleton.keypoints), ensure_ascii=False)}}}"]
    # In quotes: no, 1e3 and 12:30 are no text for every reader of yaml.
    names = (f"  {k}: {json.dumps(name, ensure_ascii=False)}" for k, name in enumerate(classes))
    return "\n".join([*lines, "names:", *names, ""])


def _outline(segment: Segment, losses: Losses) -> list[float] | None:
    if segment is None:
        return None
    polygons = segment if isinstance(segment, list) else mask_polygons(segment)
    if not isinstance(segment, list) and polygons:
        again = encode_polygons(polygons, (segment["size"][0], segment["size"][1]))
        losses.add("YOLO holds outlines without holes, so they are filled", int(again != segment))
    if len(polygons) > 1:
        losses.add("YOLO holds one outline per object, so its parts are joined by lines")
    return join_polygons(polygons) if polygons else None


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
        Image.fromarray(values).save(folder / f"{stem_of(name)}.png")


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


def stem_of(name: str) -> str:
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


def _score(entry: AnnotatedImage, k: int) -> float | None:
    """The score of an object that has one."""
    score = math.nan if entry.scores is None else float(entry.scores[k])
    return None if math.isnan(score) else score


def _number(value: float) -> str:
    """Whole numbers without a point, others with all their digits, so that nothing is lost."""
    return str(int(value)) if value == int(value) else repr(float(value))
