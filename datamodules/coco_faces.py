"""Faces with five keypoints out of labels of whole people: COCO's nose, eyes and ears, and what has their names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from datamodules.coco_keypoints import CocoKeypointData
from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData
from visionkit.data import Split
from visionkit.errors import DataError

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
"""Keypoints of the skeleton `head5`."""

_SIDE = {
    (LEFT_EYE, RIGHT_EYE): 2.3,
    (LEFT_EAR, RIGHT_EAR): 1.2,
    (NOSE, LEFT_EAR): 1.5,
    (NOSE, RIGHT_EAR): 1.5,
}
"""By two keypoints: a face's side over the distance between them where they are seen at their farthest."""

_DOWN = 0.05
"""Of the side: how far a face's center lies below the middle between its eyes and its nose."""


class CocoFaceData(PoseData):
    """The faces of people whose keypoints are labeled, each with a box, nose, eyes and ears.

    A face is where the nose and at least one eye are labeled. Nobody labels its box: it is a square about them, whose
    side follows from how far eyes, ears and nose are apart. A head with fewer labeled keypoints, or with a face below
    `smallest`, is left out as a crowd is. People without any labeled keypoint are not in
    the labels, so a face of theirs counts as none.

    Args:
        root: The folder of the data set.
        labels: See `CocoKeypointData`.
        images: See `CocoKeypointData`.
        smallest: Side of the smallest face, in file pixels.
        skeleton: `head5`, which no label file has to name.
        **base: See `datamodules.pose_data.PoseData`.

    Example:
        >>> data = CocoFaceData("coco", input=task.input)
        >>> data.skeleton.keypoints
        ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear')
    """

    def __init__(
        self,
        root: str,
        *,
        labels: str | None = None,
        images: str | None = None,
        smallest: float = 10.0,
        skeleton: str | dict[str, Any] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(skeleton="head5" if skeleton is None else skeleton, **base)
        if self.skeleton.name != "head5":
            raise DataError(
                f"data.skeleton {self.skeleton.name}: faces of people have the skeleton head5; leave it out"
            )
        self.people = CocoKeypointData(root, labels=labels, images=images)
        self.root, self.smallest = self.people.root, smallest

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """The skeleton of faces, whatever the labels name."""
        return "head5" if name == "skeleton" else None

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        entries = self.people.read(split)
        if entries is None:
            return None
        known = list(self.people.skeleton.keypoints)
        missing = [name for name in self.skeleton.keypoints if name not in known]
        if missing:
            raise DataError(
                f"{self.root}: the skeleton {self.people.skeleton.name} of its labels has no keypoint {missing[0]!r}, "
                "which faces are made from"
            )
        rows = [known.index(name) for name in self.skeleton.keypoints]
        note = self.people.notes[split]
        self.note(split, note.source, note.passed_over)
        return [self._faces(entry, rows) for entry in entries]

    def _faces(self, entry: AnnotatedImage, rows: list[int]) -> AnnotatedImage:
        keypoints = entry.more["keypoints"][:, rows]
        labeled = np.asarray(keypoints[..., 2] > 0)
        boxes = face_boxes(keypoints)
        whole = labeled[:, NOSE] & labeled[:, [LEFT_EYE, RIGHT_EYE]].any(axis=1)
        seen = whole & (boxes[:, 2] - boxes[:, 0] >= self.smallest) & ~entry.crowded
        faces = replace(entry, boxes=boxes, area=None, crowd=~seen, more={"keypoints": keypoints})
        return faces.take(np.asarray(labeled.any(axis=1)))


def face_boxes(keypoints: np.ndarray) -> np.ndarray:
    """Squares about faces.

    Args:
        keypoints: (N, 5, 3) x, y and visibility of `head5`.

    Returns:
        (N, 4) float64 x1, y1, x2, y2; without an area where no keypoint is labeled.
    """
    places, labeled = keypoints[..., :2].astype(np.float64), np.asarray(keypoints[..., 2] > 0)
    side = np.full(len(keypoints), 4.0)
    for (first, second), times in _SIDE.items():
        apart = np.hypot(*(places[:, first] - places[:, second]).T) * times
        side = np.maximum(side, np.where(labeled[:, first] & labeled[:, second], apart, 0))
    side = side * labeled.any(axis=1)
    # Of a profile, one ear shows where the back of the head is: the center lies between it and the nose.
    eyes = _mean(places[:, LEFT_EYE : RIGHT_EYE + 1], labeled[:, LEFT_EYE : RIGHT_EYE + 1])
    front = _mean(np.stack([eyes, places[:, NOSE]], 1), np.stack([labeled[:, 1:3].any(1), labeled[:, NOSE]], 1))
    ears = _mean(places[:, LEFT_EAR:], labeled[:, LEFT_EAR:])
    known = labeled[:, LEFT_EAR:].sum(axis=1)
    center = np.where((labeled[:, :3].sum(axis=1) > 0)[:, None], front, ears)
    turned = (known == 1) & labeled[:, NOSE]
    center[:, 0] = np.where(turned, 0.6 * front[:, 0] + 0.4 * ears[:, 0], center[:, 0])
    center[:, 1] += _DOWN * side
    half = side[:, None] / 2
    return np.concatenate([center - half, center + half], axis=1)


def _mean(places: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """(N, 2) means of the labeled ones of (N, K, 2); 0 where none is."""
    count = labeled.sum(axis=1).clip(min=1)
    return np.asarray((places * labeled[..., None]).sum(axis=1) / count[:, None])
