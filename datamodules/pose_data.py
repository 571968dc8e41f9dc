"""Images with people, whatever format they were written in: checked, and cut into one crop each where requested."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.keypoint_checks import check_keypoints
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData
from datamodules.person_crops import PersonCrops
from visionkit.augmentation import Augmentation, composed
from visionkit.crops import PersonCrop
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.skeleton import Skeleton, subject_areas
from visionkit.types import Sample

log = logging.getLogger(__name__)

MARGIN, NEAR = 0.1, 4.0
"""What a box made from keypoints has around them: a fraction of its longer side, and the least in pixels."""


class PoseData(ObjectData):
    """Base of the data modules that read keypoints: a subclass lists entries with `keypoints` among their further rows.

    Args:
        skeleton: Name, yaml file or content of the keypoints' skeleton; by default what the labels themselves name.
        crop: Makes every person a sample of its own; whole images by default. Linked from the model by the
            command line.
        augment: Changes training samples.
        **base: See `datamodules.objects.ObjectData`.
    """

    keeps_crowds = True  # a network for whole images must know which regions to leave out

    def __init__(
        self,
        *,
        skeleton: str | dict[str, Any] | None = None,
        crop: PersonCrop | None = None,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        self.skeleton, self.crop = Skeleton.of("coco17" if skeleton is None else skeleton), crop
        super().__init__(augment=composed(augment, self.skeleton), **base)
        if self.target != "boxes":
            raise UsageError("data.target masks: data of keypoints have boxes and keypoints; leave the target out")
        self.classes = self.classes or (self.skeleton.subject,)
        if len(self.classes) != 1:
            raise UsageError(
                f"data.classes: one type of subject has these keypoints, and {len(self.classes)} are named"
            )

    @abstractmethod
    def read(self, split: Split) -> list[AnnotatedImage] | None:
        """As in the base, with `keypoints` (N, K, 3) in `more`."""

    def check(self, split: Split, entries: list[AnnotatedImage], counts: dict[str, int]) -> list[AnnotatedImage]:
        """Refuses keypoints that nobody could train on, see `datamodules.keypoint_checks`."""
        entries = check_keypoints(entries, f"{self.source}, {split}", counts)
        people = sum(int((~entry.crowded).sum()) for entry in entries)
        if split == "train" and people and not any((entry.more["keypoints"][..., 2] > 0).any() for entry in entries):
            found = "".join(f"; {number} {what}" for what, number in counts.items())
            raise DataError(
                f"{self.source}, {split}: none of {people} people has a labeled keypoint, so there is nothing to "
                f"train on; visibility is 0 where a keypoint is not labeled, else 1 or 2{found}"
            )
        return entries

    @classmethod
    def discover_classes(cls, skeleton: Any = None, **init_args: Any) -> list[str]:
        """What has the skeleton's keypoints."""
        if skeleton is None:
            skeleton = cls.linked("skeleton", **init_args)
        return [Skeleton.of(skeleton or "coco17").subject]

    def found_boxes(self, split: Split) -> dict[str, np.ndarray] | None:
        """(n, 5) boxes and scores by image in place of the labeled ones; by default none."""
        return None

    def entries(self, split: Split) -> list[AnnotatedImage]:
        """The entries of one split; a subject without an area gets the field's part of its box."""
        return [replace(entry, area=subject_areas(entry.area, entry.boxes)) for entry in super().entries(split)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images, or their people, of one split."""
        images = super().dataset(split)
        if self.crop is None:
            return images
        if self.input is None:
            raise UsageError(f"{type(self).__name__}: no input; give input=task.input")
        boxes = None if split == "train" else self.found_boxes(split)
        name = f"{self.source}, {split}"
        return PersonCrops(images, self.crop, self.input.size, training=split == "train", boxes=boxes, name=name)


def keypoint_boxes(keypoints: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """(N, 4) boxes for labels that have none: about the labeled keypoints and `MARGIN` more, empty where none is.

    Args:
        keypoints: x, y and visibility.
        size: Height and width of the image, beyond which no box reaches.
    """
    boxes = around_keypoints(keypoints).astype(np.float64)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    added = np.maximum(MARGIN * longer, NEAR) * (keypoints[..., 2] > 0).any(axis=1)
    height, width = size or (np.inf, np.inf)
    grown = boxes + added[:, None] * np.array([-1, -1, 1, 1])
    return np.asarray(np.clip(grown, 0, np.array([width, height, width, height])))


def boxless_entry(file: Path, place: str, keypoints: np.ndarray) -> AnnotatedImage:
    """An entry of labels that are keypoints alone.

    Args:
        file: The image.
        place: Names the entry in messages.
        keypoints: (N, K, 3).
    """
    size = ImageSource(file).size if len(keypoints) and file.is_file() else None
    return AnnotatedImage(
        file=str(file),
        place=place,
        boxes=keypoint_boxes(keypoints, size),
        labels=np.zeros(len(keypoints), dtype=np.int64),
        size=size,
        more={"keypoints": keypoints},
    )


def around_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """(N, 4) boxes about the labeled keypoints of (N, K, 3); an empty one where none is."""
    labeled = keypoints[..., 2:] > 0
    low = np.where(labeled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labeled, keypoints[..., :2], -np.inf).max(axis=1)
    return np.asarray(np.nan_to_num(np.concatenate([low, high], axis=1), posinf=0.0, neginf=0.0))
