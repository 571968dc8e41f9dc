"""YOLO's keypoint labels: `class cx cy w h x1 y1 v1 x2 y2 v2 ...`, described by `kpt_shape` in the yaml file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData
from datamodules.yolo import list_labeled, yolo_entry
from datamodules.yolo_description import Described, describe
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.skeleton import Skeleton


class YoloPoseData(PoseData):
    """Subjects with keypoints in YOLO's layout; several classes with one skeleton are one subject.

    Args:
        yaml: The file, see `YoloData`. `kpt_shape` is [number of keypoints, 2 or 3]; `kpt_names` names them and
            `flip_idx` states which change places when the image is flipped.
        skeleton: Name, yaml file or content of the skeleton; by default COCO's for 17 keypoints without names, else one
            of the yaml's own names.
        **base: See `datamodules.pose_data.PoseData`.

    Example:
        >>> YoloPoseData("tigers/data.yaml").skeleton.keypoints[:2]
        ('keypoint_1', 'keypoint_2')
    """

    def __init__(self, yaml: str, *, skeleton: str | dict[str, Any] | None = None, **base: Any) -> None:
        super().__init__(skeleton=self.linked("skeleton", yaml=yaml) if skeleton is None else skeleton, **base)
        self.yaml = Path(yaml)
        self.described = _with_keypoints(describe(self.yaml))

    @property
    def source(self) -> str:
        return str(self.yaml)

    @classmethod
    def linked(cls, name: str, yaml: str = "", **init_args: Any) -> Any:
        """The skeleton that the yaml file describes."""
        return _skeleton(_with_keypoints(describe(Path(yaml)))) if name == "skeleton" else None

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        described = self.described
        count = described.keypoints[0] if described.keypoints else 0
        if count != len(self.skeleton):
            raise DataError(
                f"{self.yaml}: kpt_shape states {count} keypoints and skeleton {self.skeleton.name} has "
                f"{len(self.skeleton)}; give the right one with --data.skeleton"
            )
        found = list_labeled(described, split)
        if found is None:
            return None
        self.note(split, found.source, found.passed_over)
        entries = [yolo_entry(image, label, described) for image, label in found.pairs]
        return [replace(entry, segments=None, labels=np.zeros_like(entry.labels)) for entry in entries]


def _with_keypoints(described: Described) -> Described:
    if described.keypoints is None:
        raise DataError(f"{described.path}: it has no kpt_shape, so its labels are boxes; use YoloData")
    return described


def _skeleton(described: Described) -> Any:
    assert described.keypoints is not None
    count = described.keypoints[0]
    names = described.keypoint_names
    if count == len(Skeleton.of("coco17")) and (not names or names == Skeleton.of("coco17").keypoints):
        return "coco17"
    names = names or tuple(f"keypoint_{number + 1}" for number in range(count))
    pairs = [[names[k], names[flip]] for k, flip in enumerate(described.flips) if k < flip]
    subject = described.names[0] if len(described.names) == 1 else "subject"
    return {"name": described.path.stem, "subject": subject, "keypoints": list(names), "flip_pairs": pairs}
