"""COCO keypoints json, and what is written in its form: AP-10K, one's own."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from datamodules.class_names import shorten
from datamodules.coco import CocoFile, coco_entry, identifier, image_folder, read_coco, stated_size
from datamodules.coco_places import LABELS, any_label_file, image_file, label_file
from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData, keypoint_boxes
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.families.keypoints.skeleton_names import (
    WHOLE_COUNT,
    category_skeleton,
    has_names,
    is_own,
    keypoint_list,
    order_of,
    plain_name,
)
from visionkit.plain_values import plain
from visionkit.refusals import repaired
from visionkit.skeleton import Skeleton, shipped, subject_areas
from visionkit.text_files import read_json, shown

log = logging.getLogger(__name__)

_USUAL = ("annotations/person_keypoints_{split}*.json", *LABELS)


class CocoKeypointData(PoseData):
    """People of COCO keypoints json files; several categories with one skeleton (AP-10K) are one subject.

    An annotation without a box gets one from its segmentation, or else about its labeled keypoints.

    Args:
        root: The folder of the data set.
        labels: Where the label files are, with `{split}` in place of train, val and test: a path below `root`, which
            may have a `*`. By default `annotations/person_keypoints_{split}*.json`.
        images: Where the images are, in the same way; by default looked for in the usual locations.
        boxes: For networks of one person per crop, the boxes that are evaluated: COCO's results json of a detector,
            with `{split}` where there are several. By default the labeled boxes.
        box_score: Score from which a detector's box is taken.
        skeleton: Name, yaml file or content of the skeleton, or the name of a category of the label file, whose
            keypoints and objects alone are taken then. By default the keypoints that all categories name.
        **base: See `datamodules.pose_data.PoseData`.

    Example:
        >>> data = CocoKeypointData("coco", crop=task.crop, input=task.input)
        >>> data.skeleton.name
        'coco17'
    """

    def __init__(
        self,
        root: str,
        *,
        labels: str | None = None,
        images: str | None = None,
        boxes: str | None = None,
        box_score: float = 0.0,
        skeleton: str | dict[str, Any] | None = None,
        **base: Any,
    ) -> None:
        if skeleton is None:
            skeleton = self.linked("skeleton", root=root, labels=labels)
        skeleton = self.settled("skeleton", skeleton, root=root, labels=labels)
        super().__init__(skeleton=skeleton, **base)
        self.root, self.labels, self.images = Path(root), labels, images
        self.boxes, self.box_score = boxes, box_score

    @classmethod
    def linked(cls, name: str, root: str = "", labels: str | None = None, **init_args: Any) -> Any:
        """The skeleton whose keypoints the training labels name: a shipped one's name, or the labels' own, whole."""
        if name != "skeleton":
            return None
        path = any_label_file(Path(root), labels, _USUAL)
        skeleton, notes = category_skeleton(path, fallback="coco17")
        for note in notes:
            log.warning("%s", note)
        return skeleton.name if skeleton.name in shipped() else plain(skeleton)

    @classmethod
    def settled(cls, name: str, value: Any, root: str = "", labels: str | None = None, **init_args: Any) -> Any:
        """The keypoints of the category that is named in place of a skeleton, whole."""
        if name != "skeleton" or not is_own(value):
            return value
        skeleton, notes = category_skeleton(any_label_file(Path(root), labels, _USUAL), category=value)
        for note in notes:
            log.warning("%s", note)
        return plain(skeleton)

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        path = label_file(self.root, split, self.labels, must=split == "train", usual=_USUAL)
        if path is None:
            return None
        coco = read_coco(path)
        orders = self._orders(coco)
        folder = image_folder(self.root, split, coco, self.images)
        others = {name: key for key, name in coco.categories.items() if key not in orders}
        left_out = sum(each["category_id"] not in orders for rows in coco.annotations.values() for each in rows)
        kind = (
            "with other keypoints"
            if any(has_names(coco.details[key]) for key in others.values())
            else "without keypoints"
        )
        named = f"objects of categories {kind} ({shorten(others, 3)})"
        counts = {**coco.passed_over, named: left_out}
        coco = replace(coco, annotations=self._with_boxes(coco, orders, counts))
        self.note(split, path, counts)
        return [self._entry(coco, image, folder, orders) for image in coco.images]

    def _entry(
        self, coco: CocoFile, image: dict[str, Any], folder: Path, orders: dict[Any, list[int]]
    ) -> AnnotatedImage:
        entry = coco_entry(coco, image, image_file(folder, image), dict.fromkeys(orders, 0))
        keypoints = annotated_keypoints(coco, image, orders, self.skeleton)
        area = subject_areas(entry.area, entry.boxes)  # of the box as it is written, before it is clipped
        return replace(entry, segments=None, area=area, more={**entry.more, "keypoints": keypoints})

    def _with_boxes(
        self, coco: CocoFile, orders: dict[Any, list[int]], counts: dict[str, int]
    ) -> dict[Any, list[dict[str, Any]]]:
        """The annotations, those without a box with one about their keypoints."""
        made, nowhere = "boxes made from keypoints", "objects without a box, an outline or a labeled keypoint"
        out: dict[Any, list[dict[str, Any]]] = {}
        sizes = {image["id"]: stated_size(coco.path, image) for image in coco.images}
        for image, rows in coco.annotations.items():
            kept = out[image] = []
            for each in rows:
                if each["category_id"] in orders and _lacks_box(each):
                    points = _keypoints(each, len(self.skeleton), self.skeleton.name, coco.path)
                    if not (points[:, 2] > 0).any():
                        counts[nowhere] = counts.get(nowhere, 0) + 1
                        continue
                    counts[made] = counts.get(made, 0) + 1
                    low, high = np.split(keypoint_boxes(points[None], sizes[image])[0], 2)
                    each = {**each, "bbox": [*low.tolist(), *(high - low).tolist()]}
                kept.append(each)
        return out

    def _orders(self, coco: CocoFile) -> dict[Any, list[int]]:
        """The skeleton's keypoints in the file, by category, and by name where the file names them."""
        every = list(range(len(self.skeleton)))
        named = {
            key: each["keypoints"] for key, each in coco.details.items() if key in coco.categories and has_names(each)
        }
        if not named or len(self.skeleton) == WHOLE_COUNT:
            return dict.fromkeys(named or coco.categories, every)
        same = [key for key in named if coco.categories[key] == self.skeleton.name]  # the category that was chosen
        orders = {key: order_of(named[key], self.skeleton) for key in same or named}
        found = {key: order for key, order in orders.items() if order is not None}
        if not found:
            self._refuse(coco.path, next(iter(named.values())))
        return found

    def _refuse(self, path: Path, names: list[str]) -> NoReturn:
        known = [plain_name(name) for name in self.skeleton.keypoints]
        for name in names:
            if plain_name(name) not in known:
                raise DataError(
                    f"{path}: the keypoint {name!r} is none of skeleton {self.skeleton.name}"
                    f"{suggest(name, self.skeleton.keypoints)}; give the right one with --data.skeleton"
                )
        there = [plain_name(name) for name in names]
        missing = next(name for name in self.skeleton.keypoints if plain_name(name) not in there)
        raise DataError(
            f"{path}: it has no keypoint {missing!r}, which skeleton {self.skeleton.name} names; give the right "
            "skeleton with --data.skeleton"
        )

    def found_boxes(self, split: Split) -> dict[str, np.ndarray] | None:
        """The detector's boxes of this split's images.

        Raises:
            DataError: The file is none of results, or names an image that is not there.
        """
        if self.boxes is None:
            return None
        path = self.root / self.boxes.format(split=split)
        labels = label_file(self.root, split, self.labels, must=False, usual=_USUAL)
        labels = labels or any_label_file(self.root, self.labels, _USUAL)  # which the split is split off
        coco = read_coco(labels)
        folder = image_folder(self.root, split, coco, self.images)
        files = {image["id"]: image_file(folder, image) for image in coco.images}
        results = read_json(path)
        if not isinstance(results, list):
            raise DataError(f"{path}: a results json is a list of image_id, category_id, bbox and score")
        out: dict[str, list[list[float]]] = {}
        for number, each in enumerate(results):
            place = f"{path} [{number}]"
            if not isinstance(each, dict) or not {"image_id", "bbox", "score"} <= each.keys():
                raise DataError(f"{place}: a result has an image_id, a bbox and a score")
            image = identifier(each["image_id"], place, "image_id")
            if image not in files:
                raise DataError(f"{place}: {labels} has no image with the id {shown(image)}")
            box = each["bbox"]
            if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, [*box, each["score"]])):
                raise DataError(f"{place}: bbox is x, y, width, height and score a number")
            x, y, width, height = box
            if each["score"] >= self.box_score and min(width, height) > 0:
                out.setdefault(files[image], []).append([x, y, x + width, y + height, each["score"]])
        return {file: np.array(rows, dtype=np.float64) for file, rows in out.items()}


def annotated_keypoints(
    coco: CocoFile, image: dict[str, Any], orders: Mapping[Any, list[int]], skeleton: Skeleton
) -> np.ndarray:
    """(N, K, 3) keypoints of the objects of an image.

    Args:
        coco: The file.
        image: One of its images.
        orders: The skeleton's keypoints in the file, by category id; objects of other categories are left out.
        skeleton: Skeleton of the keypoints.
    """
    rows = [
        _keypoints(each, len(skeleton), skeleton.name, coco.path)[orders[each["category_id"]]]
        for each in coco.annotations.get(image["id"], [])
        if each["category_id"] in orders
    ]
    return np.array(rows, dtype=np.float32).reshape(-1, len(skeleton), 3)


def _note_repairs(values: np.ndarray, place: str) -> None:
    """For an examination: what is taken for something else than the file states."""
    odd = np.flatnonzero(~np.isin(values[:, 2], (0, 1, 2)))
    if len(odd):
        repaired("keypoint-visibility", f"{place}: keypoint {odd[0] + 1} has the visibility {values[odd[0], 2]:g}")
    placed = np.flatnonzero((values[:, 2] == 0) & (np.nan_to_num(values[:, :2]) != 0).any(axis=1))
    if len(placed):
        x, y = values[placed[0], :2]
        message = f"{place}: keypoint {placed[0] + 1} has visibility 0 and lies at ({x:g}, {y:g})"
        repaired("unlabeled-keypoint-placed", message)


def _lacks_box(annotation: dict[str, Any]) -> bool:
    """No box, or one of zeros, as some tools write it, and no outline to take it from."""
    box = annotation.get("bbox")
    return (box in (None, []) and not annotation.get("segmentation")) or box == [0, 0, 0, 0]


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _keypoints(annotation: dict[str, Any], count: int, skeleton: str, path: Path) -> np.ndarray:
    """(K, 3) of one annotation; all absent where it has none."""
    given = keypoint_list(annotation, count)
    if given is None or given == []:
        return np.zeros((count, 3), dtype=np.float32)
    place = f"{path} annotation {shown(annotation.get('id'))}"
    try:
        flat = np.array(given, dtype=np.float64)  # null becomes NaN
    except (ValueError, TypeError, OverflowError):
        flat = np.zeros((0, 0))
    if not isinstance(given, list) or flat.ndim != 1:
        raise DataError(f"{place}: keypoints is a list of numbers x, y, visibility for each keypoint")
    if len(flat) != 3 * count:
        two = " (x, y and visibility for each; are these x, y alone?)" if len(flat) == 2 * count else ""
        raise DataError(
            f"{place}: {len(flat)} numbers, and skeleton {skeleton} of {count} keypoints needs {3 * count}{two}; give "
            "the right one with --data.skeleton"
        )
    values = flat.reshape(count, 3)
    _note_repairs(values, place)
    values[~(values[:, 2] > 0)] = 0  # not labeled: trackers write NaN there
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1e7:
        raise DataError(f"{place}: a labeled keypoint is no pair of finite numbers")
    values = values.astype(np.float32)
    values[:, 2] = values[:, 2].clip(0, 2)
    return values
