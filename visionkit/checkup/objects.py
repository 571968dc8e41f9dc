"""The objects of a split as one table, and what is wrong with their boxes: no image is read for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.raw_labels import RawAnnotations
from visionkit.masks import Rle
from visionkit.wording import counted

Outline = Rle | list[list[float]] | None

_ROUNDING = 1.0  # pixels by which tools round coordinates
_SAME, _SAME_ANY_CLASS = 0.95, 0.98  # IoU of two boxes that are one
_NEIGHBORS = 12  # boxes with nearly the same left border that one is compared with
_FEW, _MOST = 3, 0.9


@dataclass
class Objects:
    """All objects of a split, one row per object.

    Attributes:
        split: `train`, `val` or `test`.
        files: N paths of images.
        places: N names of their entries in the label files.
        image: (M,) int, the image of each object.
        number: (M,) int, its number in its image, from 0.
        boxes: (M, 4) float64, x1, y1, x2, y2 in file pixels, as the file has them.
        labels: (M,) int64.
        crowd: (M,) bool.
        area: (M,) float64, NaN where it is not stated.
        sizes: (N, 2) float64 height and width of the images, NaN where they are not known.
        classes: Class names.
        keypoints: (M, K, 3) float64, or None.
        segments: M outlines, or None.
        sides: (M, 2) float64 width and height as the file has them, where it has these, else None.
    """

    split: str
    files: Sequence[str]
    places: Sequence[str]
    image: np.ndarray
    number: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    sizes: np.ndarray
    classes: Sequence[str] = ()
    keypoints: np.ndarray | None = None
    segments: list[Outline] | None = None
    sides: np.ndarray | None = None
    size: np.ndarray = field(init=False)  # (M, 2) of the image of each object

    def __post_init__(self) -> None:
        self.size = self.sizes[self.image].reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, split: str, entries: Sequence[RawAnnotations], classes: Sequence[str]) -> Objects:
        """The table of what a label file states."""
        counts = np.array([len(entry.labels) for entry in entries], dtype=np.int64)
        unknown = (np.nan, np.nan)

        def joined(rows: list[Any], shape: tuple[int, ...] = ()) -> np.ndarray:
            parts = [np.asarray(row, dtype=np.float64).reshape(-1, *shape) for row in rows]
            return np.concatenate(parts) if parts else np.zeros((0, *shape))

        keypoints = [each.more["keypoints"] for each in entries if "keypoints" in each.more]
        shape = np.shape(keypoints[0])[1:] if keypoints else ()
        with_sides = len(entries) > 0 and all("file_xywh" in each.more for each in entries)
        return cls(
            split,
            [entry.file for entry in entries],
            [entry.place for entry in entries],
            np.repeat(np.arange(len(entries)), counts),
            np.concatenate([np.arange(count) for count in counts]) if len(counts) else np.zeros(0, dtype=np.int64),
            joined([entry.boxes for entry in entries], (4,)),
            joined([entry.labels for entry in entries]).astype(np.int64),
            joined([entry.crowded for entry in entries]).astype(bool),
            joined([np.full(len(e.labels), np.nan) if e.area is None else e.area for e in entries]),
            joined([entry.size or unknown for entry in entries], (2,)),
            classes,
            joined(keypoints, shape) if keypoints and len(keypoints) == len(entries) else None,
            _segments(entries),
            joined([each.more["file_xywh"] for each in entries], (4,))[:, 2:] if with_sides else None,
        )

    def name(self, row: int) -> str:
        """Class of an object, by name where it has one."""
        label = int(self.labels[row])
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"

    def finding(self, kind: str, row: int, message: str, **more: Any) -> Finding:
        """A finding about one object.

        Args:
            kind: See `Finding`.
            row: The object.
            message: See `Finding`.
            **more: Further attributes of `Finding`.
        """
        image = int(self.image[row])
        box = self.boxes[row]
        shown = tuple(float(value) for value in box) if np.isfinite(box).all() else None
        more = {"box": shown, **more}
        return Finding(
            kind, self.split, message, self.files[image], self.places[image], int(self.number[row]) + 1, **more
        )


def _segments(entries: Sequence[RawAnnotations]) -> list[Outline] | None:
    if all(entry.segments is None for entry in entries):
        return None
    return [each for entry in entries for each in (entry.segments or [None] * len(entry.labels))]


ObjectCheck = Callable[[Objects], Iterator[Finding]]
_CHECKS: list[ObjectCheck] = []


def object_check(check: ObjectCheck) -> ObjectCheck:
    """Registers a check of the objects of a split."""
    _CHECKS.append(check)
    return check


def check_objects(objects: Objects) -> Iterator[Finding]:
    """What is wrong with the objects of a split; a mistake of the whole file is reported alone.

    Args:
        objects: With the sizes of the images as far as they are known.
    """
    if not len(objects):
        return
    for whole in (fractional_boxes(objects), corners_as_size(objects)):
        if whole is not None:
            yield whole
            return
    for check in _CHECKS:
        yield from check(objects)


def fractional_boxes(objects: Objects) -> Finding | None:
    """Boxes whose coordinates are fractions of the image."""
    boxes = objects.boxes[np.isfinite(objects.boxes).all(axis=1)]
    within = (boxes >= -0.01).all(axis=1) & (boxes <= 1.01).all(axis=1)
    if len(boxes) < _FEW or within.mean() < _MOST:
        return None
    message = f"{int(within.sum())} of {counted(len(boxes), 'box')} lie between 0 and 1, so they seem to be fractions"
    return objects.finding("fractional-boxes", int(np.flatnonzero(within)[0]), message, box=None)


def corners_as_size(objects: Objects) -> Finding | None:
    """Boxes whose third and fourth number are a corner, where the format has width and height."""
    if objects.sides is None:
        return None
    known = np.isfinite(objects.size).all(axis=1) & np.isfinite(objects.boxes).all(axis=1) & ~objects.crowd
    first, second, limit = objects.boxes[:, :2], objects.sides, objects.size[:, ::-1]
    with np.errstate(invalid="ignore"):
        beyond = (first + second > limit * 1.02 + _ROUNDING).any(axis=1)[known]
        within = np.minimum(second - first, limit + _ROUNDING - second)
    as_corners = (within.min(axis=1) > 0)[known]
    if len(beyond) < _FEW or beyond.mean() < 0.3 or as_corners.mean() < 0.98:
        return None
    message = (
        f"{int(beyond.sum())} of {counted(len(beyond), 'box')} reach beyond their image, and none would if its numbers "
        "were two corners"
    )
    return objects.finding("corners-as-size", int(np.flatnonzero(known)[np.flatnonzero(beyond)[0]]), message)


def shown_box(box: np.ndarray) -> str:
    """A box in a message."""
    return f"({', '.join(f'{value:g}' for value in np.round(box, 2))})"


def proper(objects: Objects) -> np.ndarray:
    """(M,) bool: boxes of finite numbers with an area."""
    finite = np.isfinite(objects.boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(finite & (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(axis=1))


@object_check
def degenerate_boxes(objects: Objects) -> Iterator[Finding]:
    """Boxes without an area, or of numbers that are not finite."""
    for row in np.flatnonzero(~proper(objects)).tolist():
        box = objects.boxes[row]
        width, height = box[2:] - box[:2]
        what = f"{width:g} x {height:g} pixels" if np.isfinite(box).all() else "its coordinates are not finite numbers"
        yield objects.finding("degenerate-box", row, f"{objects.name(row)} {shown_box(box)}: {what}")


@object_check
def boxes_and_borders(objects: Objects) -> Iterator[Finding]:
    """Boxes outside their image, or reaching beyond it."""
    limit = np.concatenate([objects.size[:, ::-1], objects.size[:, ::-1]], axis=1)
    good = proper(objects) & np.isfinite(limit).all(axis=1)
    boxes = objects.boxes
    with np.errstate(invalid="ignore"):
        outside = good & ((boxes[:, 2:] <= 0).any(axis=1) | (boxes[:, :2] >= limit[:, :2]).any(axis=1))
        far = np.maximum(-boxes, boxes - limit).max(axis=1, initial=0)
        beyond = good & ~outside & ~objects.crowd & (far > _ROUNDING)
    for kind, rows in (("box-outside-image", outside), ("box-beyond-image", beyond)):
        for row in np.flatnonzero(rows).tolist():
            height, width = objects.size[row]
            message = f"{objects.name(row)} {shown_box(boxes[row])} in an image of {width:g} x {height:g}"
            more = f", {far[row]:.3g} pixels beyond it" if kind == "box-beyond-image" else ""
            yield objects.finding(kind, row, message + more)


@object_check
def tiny_objects(objects: Objects) -> Iterator[Finding]:
    """Boxes of a pixel or so."""
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).max(axis=1, initial=0)
    for row in np.flatnonzero(proper(objects) & ~objects.crowd & (sides < 2)).tolist():
        yield objects.finding("tiny-object", row, f"{objects.name(row)} {shown_box(objects.boxes[row])}")


@object_check
def duplicate_annotations(objects: Objects) -> Iterator[Finding]:
    """Two boxes that are one: of one class a duplicate, of two classes a conflict."""
    rows = np.flatnonzero(proper(objects) & ~objects.crowd)
    rows = rows[np.lexsort((objects.boxes[rows, 0], objects.image[rows]))]
    boxes, image, labels = objects.boxes[rows], objects.image[rows], objects.labels[rows]
    seen: set[int] = set()
    for step in range(1, min(_NEIGHBORS, len(rows) - 1) + 1):
        first, second = boxes[:-step], boxes[step:]
        iou = _paired_ious(first, second)
        same = labels[:-step] == labels[step:]
        hit = (image[:-step] == image[step:]) & (iou >= np.where(same, _SAME, _SAME_ANY_CLASS))
        for place in np.flatnonzero(hit):
            a, b = sorted((int(rows[place]), int(rows[place + step])))
            if b in seen:
                continue
            seen.add(b)
            which = f"object {int(objects.number[a]) + 1}"
            if same[place]:
                message = f"{objects.name(b)} {shown_box(objects.boxes[b])} is {which} again (IoU {iou[place]:.2f})"
                yield objects.finding("duplicate-annotation", b, message)
            else:
                message = f"{objects.name(b)} {shown_box(objects.boxes[b])} is {which}, {objects.name(a)}"
                yield objects.finding("conflicting-annotation", b, message)


def _paired_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-12))
