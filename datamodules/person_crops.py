"""People of images as samples of their own: one crop each, chosen before anything is decoded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visionkit.crops import PersonCrop
from visionkit.errors import DataError
from visionkit.skeleton import subject_areas
from visionkit.types import Sample, View

log = logging.getLogger(__name__)

_NOBODY = -1


class PersonCrops(Sequence[Sample]):
    """The people of images, one crop each.

    In training and where boxes are the labeled ones, people without a labeled keypoint and crowd regions are left out
    and counted. Where boxes come from a detector, every box is a crop, and an image without any still shows up once,
    so that whoever was not found there counts as missed.

    Args:
        images: Samples with `keypoints` and `boxes`.
        crop: How a crop follows from a box.
        size: Height and width of the network's input.
        training: Leave out what only the metric needs.
        boxes: (n, 5) x1, y1, x2, y2, score in file pixels by the id of the image, in place of the labeled boxes.
        name: Names the set in messages.

    Raises:
        DataError: Nobody is left.
    """

    def __init__(
        self,
        images: Sequence[Sample],
        crop: PersonCrop,
        size: tuple[int, int],
        *,
        training: bool,
        boxes: Mapping[str, np.ndarray] | None = None,
        name: str = "data",
    ) -> None:
        self.images, self.crop, self.size, self.training, self.boxes = images, crop, size, training, boxes
        self.rows: list[tuple[int, int]] = []
        if boxes is None:
            self._labeled(name)
        else:
            for number, image in enumerate(images):
                count = len(boxes.get(image.id, ()))
                self.rows += [(number, k) for k in range(count)] or [(number, _NOBODY)]
        if not self.rows:
            raise DataError(f"{name}: there is nobody with a labeled keypoint")

    def _labeled(self, name: str) -> None:
        bare = crowds = flat = 0
        for number, image in enumerate(self.images):
            target = image.target
            keypoints, boxes = np.asarray(target["keypoints"]), np.asarray(target["boxes"]).reshape(-1, 4)
            crowd = np.asarray(target.get("iscrowd", np.zeros(len(boxes))))
            for k in range(len(keypoints)):
                if crowd[k]:
                    crowds += 1
                elif not (keypoints[k, :, 2] > 0).any():
                    bare += 1
                elif (boxes[k, 2:] - boxes[k, :2]).min() < 1:
                    flat += 1
                else:
                    self.rows.append((number, k))
        reasons = ((bare, "without a labeled keypoint"), (crowds, "that are crowd regions"), (flat, "without a box"))
        left_out = [f"{count} {what}" for count, what in reasons if count]
        if left_out:
            log.warning(
                "%s: of %d people are left out %s", name, len(self.rows) + bare + crowds + flat, ", ".join(left_out)
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number, person = self.rows[index]
        image = self.images[number]
        if self.boxes is None:
            return self._person(image, person)
        return self._found(image, person, first=index == 0 or self.rows[index - 1][0] != number)

    def _person(self, image: Sample, person: int) -> Sample:
        here = slice(person, person + 1)
        given: Any = image.target
        target: dict[str, Any] = {"keypoints": np.asarray(given["keypoints"], np.float32)[here]}
        if not self.training:
            target |= _for_metric(given, here)
        view = View(self.crop.region(np.asarray(given["boxes"]).reshape(-1, 4)[person], self.size))
        return replace(image, target=target, view=view)  # type: ignore[arg-type]

    def _found(self, image: Sample, person: int, first: bool) -> Sample:
        given: Any = image.target
        boxes = (self.boxes or {}).get(image.id)
        everyone = slice(None) if first else slice(0, 0)  # the labeled people go with the first crop, once
        keypoints = np.asarray(given["keypoints"]).shape[1]
        target: Any = {"keypoints": np.zeros((0, keypoints, 3), np.float32), **_for_metric(given, everyone)}
        if person == _NOBODY or boxes is None:
            return replace(image, target=target | {"found": np.float32(0)}, view=None)
        view = View(self.crop.region(boxes[person][:4], self.size))
        return replace(image, target=target | {"found": np.float32(boxes[person][4])}, view=view)


def _for_metric(target: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Labels in file pixels as the metric reads them, past every transform."""
    boxes = np.asarray(target["boxes"], np.float64).reshape(-1, 4)
    area = subject_areas(target.get("area"), boxes)
    crowd = np.asarray(target.get("iscrowd", np.zeros(len(boxes))), np.int64)
    return {
        "file_keypoints": np.asarray(target["keypoints"], np.float64)[rows],
        "file_boxes": boxes[rows],
        "file_area": area[rows],
        "file_iscrowd": crowd[rows],
    }
