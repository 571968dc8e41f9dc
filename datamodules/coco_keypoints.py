"""COCO keypoints json, and what is written in its form: AP-10K, one's own."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.coco import CocoFile, coco_entry, read_coco
from datamodules.coco_places import image_file, label_file, picture_folder
from datamodules.object_entries import Entry
from datamodules.pose_data import PoseData, read_json
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.skeleton import shipped, subject_areas
from visionkit.skeleton_names import (
    WHOLE_COUNT,
    category_keypoints,
    category_skeleton,
    keypoint_list,
    order_of,
    plain_name,
)
from visionkit.task import plain

log = logging.getLogger(__name__)

_LABELS = "annotations/person_keypoints_{split}*.json"


class CocoKeypointData(PoseData):
    """Persons of COCO keypoints json files; several categories with one skeleton (AP-10K) are one subject.

    Args:
        root: The folder of the data set.
        labels: Where the label files are, with `{split}` in place of train, val and test: a path below `root`, which
            may have a `*`. By default `annotations/person_keypoints_{split}*.json`.
        images: Where the pictures are, in the same way; by default looked for in the usual places.
        boxes: For networks of one person a crop, the boxes that are evaluated: COCO's results json of a detector, with
            `{split}` where there are several. By default the labelled boxes.
        box_score: Score from which a detector's box is taken.
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
        super().__init__(skeleton=skeleton, **base)
        self.root, self.labels, self.images = Path(root), labels or _LABELS, images
        self.boxes, self.box_score = boxes, box_score

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def linked(cls, name: str, root: str = "", labels: str | None = None, **init_args: Any) -> Any:
        """The skeleton whose keypoints the training labels name: a shipped one's name, or the labels' own, whole."""
        if name != "skeleton":
            return None
        path = label_file(Path(root), "train", labels or _LABELS)
        assert path is not None  # it must be there
        skeleton, notes = category_skeleton(path, fallback="coco17")
        for note in notes:
            log.warning("%s", note)
        return skeleton.name if skeleton.name in shipped() else plain(skeleton)

    def read(self, split: Split) -> list[Entry] | None:
        path = label_file(self.root, split, self.labels, must=split == "train")
        if path is None:
            return None
        coco = read_coco(path)
        order = self._order(path)
        folder = picture_folder(self.root, split, path, coco.images, self.images)
        labels = dict.fromkeys(coco.categories, 0)
        return [self._entry(coco, image, folder, labels, order) for image in coco.images]

    def _entry(
        self, coco: CocoFile, image: dict[str, Any], folder: Path, labels: dict[int, int], order: list[int]
    ) -> Entry:
        entry = coco_entry(coco, image, image_file(folder, image), labels)
        rows = [
            _keypoints(each, len(self.skeleton), self.skeleton.name, coco.path)[order]
            for each in coco.annotations.get(image["id"], [])
        ]
        keypoints = np.array(rows, dtype=np.float32).reshape(-1, len(self.skeleton), 3)
        area = subject_areas(entry.area, entry.boxes)  # of the box as it is written, before it is clipped
        return replace(entry, segments=None, area=area, more={"keypoints": keypoints})

    def _order(self, path: Path) -> list[int]:
        """The skeleton's keypoints in the file, by name where the file names them."""
        names, _, _ = category_keypoints(path)
        if not names or len(self.skeleton) == WHOLE_COUNT:
            return list(range(len(self.skeleton)))
        order = order_of(names, self.skeleton)
        if order is not None:
            return order
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
        """The detector's boxes of this split's pictures.

        Raises:
            DataError: The file is none of results, or names a picture that is not there.
        """
        if self.boxes is None:
            return None
        path = self.root / self.boxes.format(split=split)
        labels = label_file(self.root, split, self.labels, must=False) or label_file(self.root, "train", self.labels)
        assert labels is not None  # it must be there
        coco = read_coco(labels)
        folder = picture_folder(self.root, split, labels, coco.images, self.images)
        files = {image["id"]: image_file(folder, image) for image in coco.images}
        results = read_json(path)
        if not isinstance(results, list):
            raise DataError(f"{path}: a results json is a list of image_id, category_id, bbox and score")
        out: dict[str, list[list[float]]] = {}
        for number, each in enumerate(results):
            place = f"{path} [{number}]"
            if not isinstance(each, dict) or not {"image_id", "bbox", "score"} <= each.keys():
                raise DataError(f"{place}: a result has an image_id, a bbox and a score")
            if each["image_id"] not in files:
                raise DataError(f"{place}: {labels} has no image with the id {each['image_id']}")
            box = each["bbox"]
            if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, [*box, each["score"]])):
                raise DataError(f"{place}: bbox is x, y, width, height and score a number")
            x, y, width, height = box
            if each["score"] >= self.box_score and min(width, height) > 0:
                out.setdefault(files[each["image_id"]], []).append([x, y, x + width, y + height, each["score"]])
        return {file: np.array(rows, dtype=np.float64) for file, rows in out.items()}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _keypoints(annotation: dict[str, Any], count: int, skeleton: str, path: Path) -> np.ndarray:
    """(K, 3) of one annotation; all absent where it has none."""
    given = keypoint_list(annotation, count)
    if given is None:
        return np.zeros((count, 3), dtype=np.float32)
    place = f"{path} annotation {annotation.get('id')}"
    if not isinstance(given, list) or not all(map(_finite, given)):
        raise DataError(f"{place}: keypoints is a list of numbers x, y, visibility for each keypoint")
    if len(given) != 3 * count:
        raise DataError(
            f"{place}: {len(given)} numbers, and skeleton {skeleton} of {count} keypoints needs {3 * count}; give the "
            "right one with --data.skeleton"
        )
    values = np.array(given, dtype=np.float32).reshape(count, 3)
    values[values[:, 2] <= 0] = 0
    values[:, 2] = values[:, 2].clip(0, 2)
    return values
