"""MPII Human Pose in the json form that everybody trains from: a list of people with center and scale."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.coco_places import label_file
from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData, around_keypoints
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import resolve_listed
from visionkit.names import checked_name
from visionkit.text_files import read_json

_LABELS = ("annot/{split}.json", "annotations/{split}.json", "*{split}*.json")
_UNIT = 200.0
"""A person of scale 1 is so many pixels high."""


class MpiiData(PoseData):
    """People of MPII's json.

    Its coordinates count pixels from 1 and become those of COCO, from 0. A person's box is the square about `center`
    with 200 pixels times `scale` a side. The area that OKS needs, which MPII does not have, is that of the box about
    the labeled keypoints. Head boxes are not in this form; PCKh here takes the distance from upper neck to head top.

    Args:
        root: The folder of the data set.
        labels: The label files below it, with `{split}` in place of train, valid and test.
        images: Folder of the images below it.
        **base: See `datamodules.pose_data.PoseData`.
    """

    def __init__(
        self,
        root: str,
        *,
        labels: str | None = None,
        images: str = "images",
        skeleton: str | dict[str, Any] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(skeleton="mpii16" if skeleton is None else skeleton, **base)
        self.root, self.labels, self.images = Path(root), labels, images

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """MPII's own skeleton."""
        return "mpii16" if name == "skeleton" else None

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        path = self._file(split)
        if path is None:
            return None
        people = read_json(path)
        if not isinstance(people, list):
            raise DataError(f"{path}: MPII's json is a list of people")
        images: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, person in enumerate(people):
            place = f"{path} [{number}]"
            if (
                not isinstance(person, dict)
                or not {"image", "center", "scale", "joints", "joints_vis"} <= person.keys()
            ):
                raise DataError(f"{place}: a person has image, center, scale, keypoints and joints_vis")
            images.setdefault(checked_name(person["image"], place, "image"), []).append(self._person(person, place))
        self.note(split, path)
        return [self._entry(path, name, rows) for name, rows in images.items()]

    def _file(self, split: Split) -> Path | None:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; give --data.root")
        return label_file(self.root, split, self.labels, must=split == "train", usual=_LABELS)

    def _person(self, person: dict[str, Any], place: str) -> tuple[np.ndarray, np.ndarray]:
        """(K, 3) keypoints and (4,) box."""
        count = len(self.skeleton)
        try:
            joints = np.array(person["joints"], dtype=np.float64).reshape(-1, 2)
            seen = np.array(person["joints_vis"], dtype=np.float64).reshape(-1)
            x, y = (float(value) for value in person["center"])
            scale = float(person["scale"])
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{place}: keypoints are pairs of numbers, center a pair and scale a number") from None
        if len(joints) != count or len(seen) != count:
            raise DataError(
                f"{place}: it has {len(joints)} keypoints and skeleton {self.skeleton.name} has {count}; give the "
                "right one with --data.skeleton"
            )
        if not np.isfinite(joints).all() or not all(map(math.isfinite, (x, y, scale))) or scale <= 0:
            raise DataError(
                f"{place}: a keypoint, the center or the scale is no finite number, or the scale not above 0"
            )
        side = _UNIT * scale / 2
        box = np.array([x - 1 - side, y - 1 - side, x - 1 + side, y - 1 + side])
        keypoints = np.column_stack([joints - 1, np.where(seen > 0, 2, 0)])
        keypoints[seen <= 0] = 0
        return keypoints.astype(np.float32), box

    def _entry(self, path: Path, name: str, rows: list[tuple[np.ndarray, np.ndarray]]) -> AnnotatedImage:
        keypoints = np.stack([joints for joints, _ in rows])
        tight = around_keypoints(keypoints)
        return AnnotatedImage(
            file=str(resolve_listed(self.root / self.images, name)),
            place=f"{path} image {name[:200]}",
            boxes=np.stack([box for _, box in rows]),
            labels=np.zeros(len(rows), dtype=np.int64),
            area=(tight[:, 2:] - tight[:, :2]).prod(axis=1).astype(np.float64),
            more={"keypoints": keypoints},
        )
