"""Keypoints of a COCO results json against a COCO label file, by the areas and sigmas of the field."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ui.evaluation.coco import Results, finite, four, is_crowd, read_results
from ui.evaluation.measured import Measured, Resampled
from visionkit.errors import DataError
from visionkit.families.keypoints.analysis import KeypointAnalysis
from visionkit.families.keypoints.skeleton_names import WHOLE_COUNT, category_skeleton, keypoint_list
from visionkit.skeleton import BOX_FRACTION, Skeleton, subject_areas
from visionkit.uncertainty.weighted_curves import mean_over

_BODY = 17  # of a whole body's keypoints, the first so many

CROWDED = {"easy": (-np.inf, 0.2), "medium": (0.2, 0.8), "hard": (0.8, np.inf)}
"""Ranges of CrowdPose's crowdIndex, the upper end excluded, as the field's evaluation tool has them."""


def measure_keypoints(labels: Path, results: Path, skeleton: str | None = None, analyze: bool = False) -> Measured:
    """COCO's ten numbers, PCK, and NME, EPE and AUC of faces and hands; CrowdPose's easy, medium and hard.

    Several categories are measured each for itself, and their mean is taken, as COCO does.

    Args:
        labels: COCO's json of the ground truth.
        results: COCO's json of the predictions.
        skeleton: Shipped name or yaml file; by default what the label file's keypoints are named by.
        analyze: Attribute the errors too.

    Raises:
        DataError: See `ui.evaluation.coco.read_results`; keypoints that do not fit the skeleton.
    """
    from tasks.pose.measures import IMAGE_COLUMNS, Measures, errors_protocol, measure
    from tasks.pose.metrics import keypoint_table

    files = read_results(labels, results)
    kept, notes = _skeleton(files, skeleton)
    found, true = _ResultFiles(files, kept), _TruthFiles(files, kept)
    parts: list[Measures] = [
        measure(found.of(label), true.of(label), kept, kept.oks_sigmas())
        for label in np.unique(np.concatenate([true.labels, found.labels]))
    ]
    if not parts:
        raise DataError(f"{labels}: it has no annotation with keypoints, and {results} has no result with them")
    values = {name: _mean([part.values[name] for part in parts]) for name in parts[0].values}
    weighted = WeightedCategories(found, true, kept, len(files.truth.images))
    crowding = np.array([_crowding(image) for image in files.truth.images], dtype=np.float64)
    if np.isfinite(crowding).any():
        for name, (least, most) in CROWDED.items():
            weighted.groups[f"ap_crowd_{name}"] = chosen = (crowding >= least) & (crowding < most)
            some = np.flatnonzero(chosen)
            rows = [
                measure(found.of(label, some), true.of(label, some), kept, kept.oks_sigmas()).values["ap"]
                for label in np.unique(true.labels)
            ]
            values[f"ap_crowd_{name}"] = _mean(rows)
    images = [
        {"image": files.truth.images[int(number)]["file_name"], **dict(zip(IMAGE_COLUMNS, row, strict=True))}
        for part in parts
        for number, row in zip(part.images, part.of_images.tolist(), strict=True)
    ]
    errors = errors_protocol(kept)
    crowded = "; easy, medium and hard by crowdIndex below .2, below .8 and from .8 on"
    protocol = (
        f"COCO OKS AP/AR (.50:.05:.95, at most 20 per image, {kept.sigmas_note} of {kept.name}, {true.area_note}); "
        f"{len(files.truth.images)} images, {len(true.labels)} annotations, {len(found.labels)} predictions"
        + (f"; {errors}" if errors else "")
        + (crowded if "ap_crowd_easy" in values else "")
    )
    tables = {"per keypoint": keypoint_table(_keypoint_table(parts), kept)}
    analysis = None
    if analyze:
        analysis = KeypointAnalysis(kept)
        names = {number: str(image["file_name"]) for number, image in enumerate(files.truth.images)}
        for label in np.unique(np.concatenate([true.labels, found.labels])):
            # People of different categories never meet, as if they were in images of their own.
            key = int(label) * len(names)
            people, known = found.of(label), true.of(label)
            shifted = {number + key: name for number, name in names.items()}
            analysis.take(shifted, replace(people, image=people.image + key), replace(known, image=known.image + key))
    resampled = Resampled.of_images([weighted], len(files.truth.images))
    return Measured(values, protocol, tables, images, [*files.notes, *notes], analysis, resampled=resampled)


class WeightedCategories:
    """The numbers of weighted images: of each category, then their mean.

    Args:
        found: The results.
        true: The annotations.
        skeleton: Skeleton of both.
        images: Number of images N.

    Attributes:
        groups: (N,) bool images whose `ap` is measured by itself too, by name.
    """

    def __init__(self, found: _ResultFiles, true: _TruthFiles, skeleton: Skeleton, images: int) -> None:
        self._given = found, true, skeleton, images
        self.groups: dict[str, np.ndarray] = {}

    @cached_property
    def _parts(self) -> list[Any]:
        from tasks.pose.weighted_poses import WeightedPoses

        found, true, skeleton, images = self._given
        labels = np.unique(np.concatenate([true.labels, found.labels]))
        return [WeightedPoses(found.of(each), true.of(each), skeleton, np.arange(images)) for each in labels]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        out = self._means(weights)
        return out | {name: self._means(weights * images)["ap"] for name, images in self.groups.items()}

    def _means(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        each = [part(weights) for part in self._parts]
        stacks = {name: np.stack([values[name] for values in each], axis=1) for name in each[0]}
        return {name: mean_over(stack, np.isfinite(stack)) for name, stack in stacks.items()}


def _mean(values: list[float]) -> float:
    known = [value for value in values if value > -1]
    return float(np.mean(known)) if known else -1.0


def _keypoint_table(parts: list[Any]) -> Any:
    """(K, 3) of several categories: fractions weighed by the number of labeled keypoints."""
    import torch

    stack = np.stack([part.keypoints for part in parts])
    weights = stack[:, :, 2:] / np.maximum(stack[:, :, 2:].sum(axis=0), 1)
    return torch.from_numpy(
        np.concatenate([(stack[:, :, :2] * weights).sum(axis=0), stack[:, :, 2:].sum(axis=0)], axis=1)
    )


def _crowding(image: dict[str, Any]) -> float:
    given = image.get("crowdIndex")
    return float(given) if finite(given) else float("nan")


def _skeleton(files: Results, given: str | None) -> tuple[Skeleton, list[str]]:
    if given is not None:
        return Skeleton.of(given), []
    whole = any(len(keypoint_list(each, WHOLE_COUNT) or ()) == 3 * WHOLE_COUNT for each in files.rows[:1])
    return category_skeleton(files.truth.path, whole=whole)


def _keypoints(each: dict[str, Any], skeleton: Skeleton, place: str) -> np.ndarray:
    given = keypoint_list(each, len(skeleton))
    if not isinstance(given, list) or not all(map(finite, given)):
        raise DataError(f"{place}: keypoints is a list of finite numbers x, y, visibility for each keypoint")
    if len(given) != 3 * len(skeleton):
        raise DataError(
            f"{place}: {len(given) / 3:g} keypoints x, y, visibility, and skeleton {skeleton.name} has "
            f"{len(skeleton)}; give the right one with --skeleton"
        )
    return np.array(given, dtype=np.float64).reshape(-1, 3)


class _TruthFiles:
    """The annotations with keypoints of a label file."""

    def __init__(self, files: Results, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        coco = files.truth
        # Categories that nobody gives keypoints to (a car beside people) have none to be found.
        rows = [
            (number, each)
            for image, number in files.numbers.items()
            for each in coco.annotations.get(image, [])
            if keypoint_list(each, len(skeleton))
        ]
        places = [f"{coco.path} annotation {each.get('id')}" for _, each in rows]
        self.image = np.array([number for number, _ in rows], dtype=np.int64)
        self.labels = np.array([files.labels[each["category_id"]] for _, each in rows], dtype=np.int64)
        points = [_keypoints(each, skeleton, place) for (_, each), place in zip(rows, places, strict=True)]
        self.keypoints = np.array(points).reshape(-1, len(skeleton), 3)
        sides = [
            four(each["bbox"], place) if each.get("bbox") else _around(points[k])
            for k, ((_, each), place) in enumerate(zip(rows, places, strict=True))
        ]
        boxes = np.array(sides, dtype=np.float64).reshape(-1, 4)
        self.boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        area = np.array([each["area"] if finite(each.get("area")) else np.nan for _, each in rows], dtype=np.float64)
        instead = BOX_FRACTION * boxes[:, 2] * boxes[:, 3]
        bare = ~(np.isfinite(area) & (area > 0))
        self.area = np.where(bare, instead, subject_areas(area, self.boxes))
        self.crowd = np.array([is_crowd(each, coco.path) for _, each in rows], dtype=bool)
        self.area_note = _area_note(int(bare.sum()), len(rows))

    def of(self, label: int, images: np.ndarray | None = None) -> Any:
        """Those of one category, and of some images."""
        from visionkit.families.keypoints.oks import Truth

        rows = _rows(self.labels, self.image, label, images)
        return Truth(self.image[rows], self.keypoints[rows], self.area[rows], self.crowd[rows], self.boxes[rows])


class _ResultFiles:
    """The results with keypoints."""

    def __init__(self, files: Results, skeleton: Skeleton) -> None:
        rows = files.rows
        self.image = np.array([files.numbers[each["image_id"]] for each in rows], dtype=np.int64)
        self.labels = np.array([files.labels[each["category_id"]] for each in rows], dtype=np.int64)
        points = [_keypoints(each, skeleton, files.place(k)) for k, each in enumerate(rows)]
        self.keypoints = np.array(points).reshape(-1, len(skeleton), 3)
        self.scores = np.array([each["score"] for each in rows], dtype=np.float64)
        # As pycocotools: the box's area where results have boxes, else of the box around the (body's) keypoints.
        self.area: np.ndarray | None = None
        if rows and rows[0].get("bbox"):
            sides = np.array([four(each.get("bbox"), files.place(k)) for k, each in enumerate(rows)])
            self.area = sides[:, 2] * sides[:, 3]
        elif len(skeleton) == WHOLE_COUNT:
            body = self.keypoints[:, :_BODY, :2]
            self.area = np.asarray((body.max(axis=1) - body.min(axis=1)).prod(axis=1))

    def of(self, label: int, images: np.ndarray | None = None) -> Any:
        """Those of one category, and of some images."""
        from visionkit.families.keypoints.oks import PoseResults

        rows = _rows(self.labels, self.image, label, images)
        area = None if self.area is None else self.area[rows]
        return PoseResults(self.image[rows], self.keypoints[rows, :, :2], self.scores[rows], area)


def _rows(labels: np.ndarray, image: np.ndarray, label: int, images: np.ndarray | None) -> np.ndarray:
    chosen = labels == label
    return np.flatnonzero(chosen if images is None else chosen & np.isin(image, images))


def _around(points: np.ndarray) -> list[float]:
    labeled = points[points[:, 2] > 0, :2]
    if not len(labeled):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = labeled.min(axis=0), labeled.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _area_note(bare: int, count: int) -> str:
    instead = f"{BOX_FRACTION:g} x width x height of the box"
    if not bare:
        return "area the annotation's own"
    return f"area {instead}" if bare == count else f"area the annotation's own, of {bare} of {count} {instead}"
