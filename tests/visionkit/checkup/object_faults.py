"""Faults of boxes, outlines and keypoints, see `faults`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.visionkit.checkup.drawn_set import SIZE, DrawnSet
from tests.visionkit.checkup.faults import FAULTS, fault
from visionkit.data import VisionDataModule

__all__ = ["FAULTS"]

# ---------------------------------------------------------------------- boxes


@fault("degenerate-box")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each["bbox"].__setitem__(2, 0.0))
    return s.objects()


@fault("box-outside-image")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.update(bbox=[SIZE[1] + 20, 5, 10, 10], segmentation=[]))
    return s.objects()


@fault("box-beyond-image")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.update(bbox=[SIZE[1] - 10, 5, 25, 30], segmentation=[], area=750))
    return s.objects()


@fault("fractional-boxes")
def _(s: DrawnSet) -> VisionDataModule:
    def divided(whole: dict[str, Any]) -> None:
        height, width = SIZE
        for each in whole["annotations"]:
            x, y, w, h = each["bbox"]
            each["bbox"] = [x / width, y / height, w / width, h / height]

    s.coco(divided)
    return s.objects()


@fault("corners-as-size")
def _(s: DrawnSet) -> VisionDataModule:
    def corners(whole: dict[str, Any]) -> None:
        for each in whole["annotations"]:
            x, y, w, h = each["bbox"]
            each["bbox"] = [x, y, x + w, y + h]

    s.coco(corners)
    return s.objects()


@fault("tiny-object")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.update(bbox=[20, 20, 1, 1.5], segmentation=[], area=1.5))
    return s.objects()


def _added(s: DrawnSet, **changes: Any) -> VisionDataModule:
    def again(whole: dict[str, Any]) -> None:
        largest = max(whole["annotations"], key=lambda each: each["area"])
        other = {key: value(largest) for key, value in changes.items()}
        whole["annotations"].append({**largest, "id": 10_000, **other})

    s.coco(again)
    return s.objects()


@fault("duplicate-annotation")
def _(s: DrawnSet) -> VisionDataModule:
    return _added(s, bbox=lambda each: [each["bbox"][0] + 0.3, *each["bbox"][1:]])


@fault("conflicting-annotation")
def _(s: DrawnSet) -> VisionDataModule:
    return _added(s, category_id=lambda each: each["category_id"] % 4 + 1)


# ---------------------------------------------------------------------- outlines


def _outline(each: dict[str, Any], points: list[tuple[float, float]]) -> None:
    """An outline in fractions of the box."""
    x, y, w, h = each["bbox"]
    each["segmentation"] = [[value for px, py in points for value in (x + px * w, y + py * h)]]


@fault("self-crossing-polygon")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: (_outline(each, [(0, 0), (1, 1), (1, 0), (0, 1)]), each.pop("area", None)))
    return s.objects()


@fault("degenerate-polygon")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: _outline(each, [(0, 0), (1, 1), (0, 0), (1, 1)]))
    return s.objects()


@fault("outline-beyond-image")
def _(s: DrawnSet) -> VisionDataModule:
    def wide(each: dict[str, Any]) -> None:
        each["bbox"] = [SIZE[1] - 30.0, 5.0, 30.0, 40.0]
        _outline(each, [(0, 0), (1.3, 0), (1.3, 1), (0, 1)])
        each["area"] = 1200

    s.annotation(wide)
    return s.objects()


@fault("outline-box-mismatch")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: (_outline(each, [(0, 0), (0.3, 0), (0.3, 0.3), (0, 0.3)]), each.pop("area")))
    return s.objects()


@fault("missing-outline")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.pop("segmentation"))
    return s.objects()


@fault("area-mismatch")
def _(s: DrawnSet) -> VisionDataModule:
    s.annotation(lambda each: each.update(area=each["area"] * 4))
    return s.objects()


# ---------------------------------------------------------------------- keypoints


def _person(s: DrawnSet, change: Callable[[np.ndarray, dict[str, Any]], Any]) -> VisionDataModule:
    def changed(each: dict[str, Any]) -> None:
        points = np.array(each["keypoints"], dtype=float).reshape(-1, 3)
        change(points, each)
        each["keypoints"] = points.ravel().tolist()

    s.annotation(changed, "person_keypoints")
    return s.people()


@fault("keypoint-visibility")
def _(s: DrawnSet) -> VisionDataModule:
    return _person(s, lambda points, each: points.__setitem__((np.flatnonzero(points[:, 2])[0], 2), 3))


@fault("keypoint-at-origin")
def _(s: DrawnSet) -> VisionDataModule:
    return _person(s, lambda points, each: points.__setitem__(4, (0, 0, 2)))


@fault("unlabeled-keypoint-placed")
def _(s: DrawnSet) -> VisionDataModule:
    return _person(s, lambda points, each: points.__setitem__(4, (30, 20, 0)))


@fault("keypoint-outside-image")
def _(s: DrawnSet) -> VisionDataModule:
    return _person(s, lambda points, each: points.__setitem__(4, (SIZE[1] + 9, 20, 2)))


@fault("keypoint-outside-box")
def _(s: DrawnSet) -> VisionDataModule:
    def far(points: np.ndarray, each: dict[str, Any]) -> None:
        each["bbox"] = [60.0, 44.0, 18.0, 18.0]
        points[:] = 0
        points[:3] = [(65, 50, 2), (70, 55, 2), (5, 5, 2)]

    return _person(s, far)


@fault("coincident-keypoints")
def _(s: DrawnSet) -> VisionDataModule:
    def same(points: np.ndarray, each: dict[str, Any]) -> None:
        x, y, w, h = each["bbox"]
        points[:2] = (x + w / 2, y + h / 2, 2)

    return _person(s, same)


@fault("fractional-keypoints")
def _(s: DrawnSet) -> VisionDataModule:
    def divided(whole: dict[str, Any]) -> None:
        for each in whole["annotations"]:
            points = np.array(each["keypoints"], dtype=float).reshape(-1, 3) / (SIZE[1], SIZE[0], 1)
            each["keypoints"] = points.ravel().tolist()

    s.coco(divided, kind="person_keypoints")
    return s.people()
