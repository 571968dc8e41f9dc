"""The review of labels: what the page shows of each image, and what a person's changes make of its annotations."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from datamodules.label_folder import LabelFolder
from datamodules.object_entries import AnnotatedImage, Segment
from ui.labeling import fit_command
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.masks import mask_polygons

SIDE = 1600
"""Longer side of an image as the page gets it, in pixels at most."""

MOST = 5000
"""Objects and points of an outline that one image may have."""

KEPT = 256
"""Earlier versions of annotations that can be gone back to, of all images together."""

_SAME = 1e-3  # pixels by which a box that nobody has moved may differ, as formats round


class Changed(UsageError):
    """The annotations are not those that the page has shown any more."""


class Review:
    """What the page asks for; safe to call from several threads.

    Args:
        folder: Folder of the labels, opened for writing.
        model: The model that training goes on from; by default the one that labeled the images.
    """

    def __init__(self, folder: LabelFolder, model: str | None = None) -> None:
        self.folder, self.model = folder, model
        self._versions: OrderedDict[tuple[str, str | None], AnnotatedImage] = OrderedDict()

    def overview(self) -> dict[str, Any]:
        """The images in the order in which they were labeled, the classes, and the command that trains on them."""
        with self.folder.lock:
            about = self.folder.description
            images = [
                {"name": name, "reviewed": state.reviewed, "uncertainty": state.uncertainty}
                for name, state in self.folder.images.items()
                if self.folder.is_done(name)
            ]
        command = fit_command(self.folder, self.model)
        return {"images": images, "classes": list(about.classes), "target": about.target, "command": command}

    def objects(self, name: str) -> dict[str, Any]:
        """The objects of one image, its size and a digest of its annotations.

        Raises:
            LookupError: No such image.
            DataError: Its annotations cannot be read.
        """
        with self.folder.lock:
            entry, size = self._read(name)
            return {
                "name": name,
                "size": list(size),
                "version": self._keep(name, entry),
                "reviewed": self.folder.images[name].reviewed,
                "objects": [_shown(entry, k) for k in range(len(entry))],
            }

    def jpeg(self, name: str) -> bytes:
        """The image as the page shows it, upright and not larger than it needs.

        Raises:
            LookupError: No such image.
            DataError: It cannot be read.
        """
        if name not in self.folder.images:
            raise LookupError(name)
        image = Image.fromarray(ImageSource(self.folder.store.image(name)).read(3))
        image.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        return file.getvalue()

    def save(self, name: str, record: Any) -> dict[str, Any]:
        """Writes what a person has made of the objects of one image.

        Args:
            name: Name of the image.
            record: `version`, the last one that `objects` or `save` gave; `reviewed`, whether the person is done with
                the image; and `objects`, each with its `label` and a `row`, a `box` or an `outline`. A row is the
                number of an object in the version `base`, by default the last one: undoing goes back to an earlier one.

        Returns:
            The new `version` and whether the image is reviewed.

        Raises:
            LookupError: No such image.
            Changed: Another program or page has changed the annotations meanwhile.
            UsageError: What was sent makes no sense.
        """
        if not isinstance(record, dict) or not isinstance(record.get("objects"), list):
            raise UsageError("a review has objects, a list")
        with self.folder.lock:
            entry, size = self._read(name)
            if record.get("version") != self.folder.store.digest(name):
                raise Changed(f"{name}: was changed by another program or page meanwhile")
            base = record.get("base", record["version"])
            if base != record["version"]:
                if (name, base) not in self._versions:
                    raise Changed(f"{name}: what was there before is not known any more")
                entry = self._versions[name, base]
            about = self.folder.description
            corrected = apply_changes(entry, record["objects"], size, len(about.classes), about.target)
            self.folder.correct(name, corrected, size, bool(record.get("reviewed")))
            version = self._keep(name, self.folder.store.read(name))
            return {"version": version, "reviewed": self.folder.images[name].reviewed}

    def _keep(self, name: str, entry: AnnotatedImage) -> str | None:
        """Keeps annotations as they are on the disk, for what refers to them later; gives their digest."""
        digest = self.folder.store.digest(name)
        self._versions[name, digest] = entry
        while len(self._versions) > KEPT:
            self._versions.popitem(last=False)
        return digest

    def _read(self, name: str) -> tuple[AnnotatedImage, tuple[int, int]]:
        if name not in self.folder.images or not self.folder.is_done(name):
            raise LookupError(name)
        entry = self.folder.store.read(name)
        return entry, entry.size or ImageSource(self.folder.store.image(name)).size


def _shown(entry: AnnotatedImage, k: int) -> dict[str, Any]:
    segment = entry.segments[k] if entry.segments is not None else None
    score = math.nan if entry.scores is None else float(entry.scores[k])
    shown: dict[str, Any] = {
        "row": k,
        "label": int(entry.labels[k]),
        "box": entry.boxes[k].tolist(),
        "score": None if math.isnan(score) else score,
        "outlines": [] if segment is None else segment if isinstance(segment, list) else mask_polygons(segment),
    }
    if "keypoints" in entry.more:
        shown["points"] = [place[:2] for place in entry.more["keypoints"][k].tolist() if place[2] > 0]
    return shown


def apply_changes(
    entry: AnnotatedImage, objects: Sequence[Any], size: tuple[int, int], classes: int, target: str
) -> AnnotatedImage:
    """Makes the annotations that a person has left on the page; whatever was changed loses the model's score.

    Args:
        entry: The annotations before.
        objects: See `Review.save`.
        size: Height and width of the image.
        classes: Number of classes.
        target: `boxes`, `masks` or `keypoints`.

    Raises:
        UsageError: An object that makes no sense.
    """
    if len(objects) > MOST:
        raise UsageError(f"an image may have {MOST} objects")
    known = [_checked(each, number, len(entry), size, classes) for number, each in enumerate(objects, 1)]
    rows = np.array([-1 if row is None else row for row, *_ in known], dtype=np.int64)
    used = rows[rows >= 0]
    if len(np.unique(used)) < len(used):
        raise UsageError("two objects cannot both be the same one of before")
    # What is new gets the row of nothing at the end, and its own values afterwards.
    boxes = np.concatenate([entry.boxes, np.zeros((1, 4))])[rows]
    labels = np.array([label for _, label, *_ in known], dtype=np.int64)
    changed = labels != np.append(entry.labels, -1)[rows]
    segments: list[Segment] = [*(entry.segments or [None] * len(entry)), None]
    kept = [segments[row] for row in rows]
    for k, (row, _, box, outline) in enumerate(known):
        if outline is not None:
            kept[k] = [outline]
            points = np.reshape(outline, (-1, 2))
            box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
        elif box is not None and (row is None or np.abs(np.array(box) - boxes[k]).max() > _SAME):
            if target == "masks":
                raise UsageError(f"object {k + 1}: in data with masks an object needs an outline, not a box")
            if target == "keypoints" and row is None:
                raise UsageError(f"object {k + 1}: a person cannot be added without keypoints")
            kept[k] = None
        else:
            continue
        boxes[k], changed[k] = box, True
    more = {}
    for key, values in entry.more.items():
        more[key] = np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)])[rows]
    if "file_xywh" in more:
        moved = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        more["file_xywh"] = np.where(changed[:, None], moved, more["file_xywh"])
    area = None if entry.area is None else np.where(changed, np.nan, np.append(entry.area, np.nan)[rows])
    scores = None
    if entry.scores is not None:
        scores = np.where(changed, np.nan, np.append(entry.scores, np.nan)[rows])
    return replace(
        entry,
        boxes=boxes,
        labels=labels,
        area=area,
        crowd=np.append(entry.crowded, False)[rows],
        segments=None if entry.segments is None and all(each is None for each in kept) else kept,
        scores=scores,
        more=more,
    )


def _checked(
    given: Any, number: int, rows: int, size: tuple[int, int], classes: int
) -> tuple[int | None, int, list[float] | None, list[float] | None]:
    """Row, label, box and outline of an object that was sent."""
    if not isinstance(given, Mapping):
        raise UsageError(f"object {number}: not an object with a label")
    row, label = given.get("row"), given.get("label")
    if row is not None and not (type(row) is int and 0 <= row < rows):
        raise UsageError(f"object {number}: there was no object {row!r} before".replace("\n", " ")[:200])
    if not (type(label) is int and 0 <= label < classes):
        raise UsageError(f"object {number}: label {label!r}: there are {classes} classes, numbered from 0"[:200])
    limit = (size[1], size[0])
    box = _numbers(given.get("box"), number, 4, 4)
    if box is not None:
        box = [min(max(value, 0.0), float(limit[k % 2])) for k, value in enumerate(box)]
        if box[2] - box[0] < 1e-6 or box[3] - box[1] < 1e-6:
            raise UsageError(f"object {number}: its box has no area inside the image")
    outline = _numbers(given.get("outline"), number, 6, 2 * MOST)
    if outline is not None:
        outline = [round(min(max(value, 0.0), float(limit[k % 2])), 2) for k, value in enumerate(outline)]
        points = np.reshape(outline, (-1, 2))
        if (points.max(axis=0) - points.min(axis=0)).min() < 1e-6:
            raise UsageError(f"object {number}: its outline has no area inside the image")
    if row is None and box is None and outline is None:
        raise UsageError(f"object {number}: a new object needs a box or an outline")
    return row, label, box, outline


def _numbers(given: Any, number: int, least: int, most: int) -> list[float] | None:
    if given is None:
        return None
    fits = isinstance(given, list) and least <= len(given) <= most and len(given) % 2 == 0
    if not fits or not all(type(each) in (int, float) and math.isfinite(each) for each in given):
        raise UsageError(f"object {number}: a box is x1, y1, x2, y2 and an outline x1, y1, x2, y2, ... in pixels")
    return [float(each) for each in given]
