"""COCO keypoints json, and what is written in its form: AP-10K, one's own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.coco import CocoFile, coco_entry, read_coco
from datamodules.coco_places import image_file, label_file, picture_folder
from datamodules.object_entries import Entry
from datamodules.pose_data import PoseData, match_skeleton, read_json
from visionkit.data import Split
from visionkit.errors import DataError, suggest

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
        """The shipped skeleton whose keypoints the training labels name."""
        if name != "skeleton":
            return None
        path = label_file(Path(root), "train", labels or _LABELS)
        assert path is not None  # it must be there
        names = _keypoint_names(read_json(path), path)
        return match_skeleton(names, str(path)) if names else "coco17"

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
        return replace(entry, segments=None, more={"keypoints": keypoints})

    def _order(self, path: Path) -> list[int]:
        """The skeleton's keypoints in the file, by name where the file names them."""
        names = _keypoint_names(read_json(path), path)
        if not names:
            return list(range(len(self.skeleton)))
        for name in names:
            if name not in self.skeleton.keypoints:
                raise DataError(
                    f"{path}: the keypoint {name!r} is none of skeleton {self.skeleton.name}"
                    f"{suggest(name, self.skeleton.keypoints)}; give the right one with --data.skeleton"
                )
        missing = [name for name in self.skeleton.keypoints if name not in names]
        if missing:
            raise DataError(
                f"{path}: it has no keypoint {missing[0]!r}, which skeleton {self.skeleton.name} names; give the right "
                "skeleton with --data.skeleton"
            )
        return [names.index(name) for name in self.skeleton.keypoints]

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


def _keypoint_names(top: Any, path: Path) -> list[str]:
    """The keypoints that the file's categories name; all of them the same."""
    categories = top.get("categories") if isinstance(top, dict) else None
    named = [each["keypoints"] for each in categories or [] if isinstance(each, dict) and each.get("keypoints")]
    if any(each != named[0] for each in named):
        raise DataError(f"{path}: its categories have different keypoints; one file, one skeleton")
    return [str(name) for name in named[0]] if named else []


def _keypoints(annotation: dict[str, Any], count: int, skeleton: str, path: Path) -> np.ndarray:
    """(K, 3) of one annotation; all absent where it has none."""
    given = annotation.get("keypoints")
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
