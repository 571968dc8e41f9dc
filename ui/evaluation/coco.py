"""Boxes and masks of a COCO results json against a COCO label file: pycocotools' numbers, to the last digits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from datamodules.coco import CocoFile, coco_segment, read_coco
from ui.evaluation.measured import Measured, Resampled
from visionkit.errors import DataError
from visionkit.families.detection.analysis import DetectionAnalysis
from visionkit.families.detection.coco_eval import COUNTED, Flat, box_pairs, evaluate, mask_pairs, voc_ap
from visionkit.families.detection.coco_eval.accumulate import Overlaps, matched
from visionkit.families.detection.coco_eval.resampling import WeightedOverlaps, WeightedScores, WeightedVoc
from visionkit.families.detection.coco_eval.voc import voc_matches
from visionkit.images import ImageSource
from visionkit.masks import Rle, encode_polygons, mask_areas, mask_boxes
from visionkit.predictions.detections import SHOWN_FROM
from visionkit.text_files import flag, read_json, shown
from visionkit.wording import counted


@dataclass(frozen=True, eq=False)
class Results:
    """A label file and the results that belong to it.

    Attributes:
        truth: The label file.
        path: Path of the results.
        rows: Results of the label file's images and categories, in the order of their file.
        places: Number of each in that file.
        numbers: Position of an image in `truth` by its id.
        labels: Number of a class by category id.
        notes: What was left out.
    """

    truth: CocoFile
    path: Path
    rows: list[dict[str, Any]]
    places: list[int]
    numbers: dict[Any, int]
    labels: dict[Any, int]
    notes: list[str]

    def place(self, row: int) -> str:
        """Names a result in messages."""
        return f"{self.path} [{self.places[row]}]"


def read_results(labels: Path, results: Path) -> Results:
    """Reads a label file and results, which are a list, or a label file of its own whose annotations have scores.

    Args:
        labels: COCO's json of the ground truth.
        results: COCO's json of the predictions.

    Raises:
        DataError: One of them cannot be read, a result has no score, or is of an image that the labels do not have.
    """
    truth = read_coco(labels)
    found = read_json(results, "results json")
    if isinstance(found, dict) and isinstance(found.get("annotations"), list):
        found = found["annotations"]
    if not isinstance(found, list):
        raise DataError(f"{results}: results are a list of objects with image_id, category_id and score")
    numbers = {image["id"]: number for number, image in enumerate(truth.images)}
    classes = {category: number for number, category in enumerate(truth.categories)}
    rows, places, strangers = [], [], 0
    for number, each in enumerate(found):
        place = f"{results} [{number}]"
        if not isinstance(each, dict) or not {"image_id", "category_id", "score"} <= each.keys():
            raise DataError(f"{place}: a result has an image_id, a category_id and a score")
        image, category = _same_id(each["image_id"], numbers), _same_id(each["category_id"], classes)
        if image is None:
            raise DataError(f"{place}: {labels} has no image with the id {shown(each['image_id'])}")
        if not finite(each["score"]):
            raise DataError(f"{place}: its score {shown(each['score'])} is no finite number")
        if category is None:
            strangers += 1
        else:
            rows.append({**each, "image_id": image, "category_id": category})
            places.append(number)
    if found and not rows:
        raise DataError(
            f"{results}: none of its {len(found)} results has a category of {labels}, whose ids are "
            f"{', '.join(map(str, list(classes)[:10]))}{', ...' if len(classes) > 10 else ''}"
        )
    notes = [f"{strangers} results of categories that {labels} does not have are left out"] if strangers else []
    if not found:
        notes.append(f"{results} holds no results")
    return Results(truth, results, rows, places, numbers, classes, notes)


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value of a json is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def four(given: Any, place: str) -> list[float]:
    """A bbox as x, y, width, height.

    Raises:
        DataError: It is none.
    """
    if not isinstance(given, list) or len(given) != 4 or not all(map(finite, given)):
        raise DataError(f"{place}: a bbox is four finite numbers x, y, width, height")
    return [float(value) for value in given]


def _same_id(given: Any, known: dict[Any, int]) -> Any:
    """The id of the label file that a result means; tools write numbers as text. None where there is no such id."""
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    forms = (given, int(given) if isinstance(given, str) and given.isdecimal() and len(given) < 20 else str(given))
    return next((form for form in forms if form in known), None)


def measure_objects(
    labels: Path,
    results: Path,
    masks: bool,
    most: int = COUNTED,
    ious: Sequence[float] = (),
    shown: float = SHOWN_FROM,
    images: Path | None = None,
) -> Measured:
    """COCO's twelve numbers of boxes or of masks, and AP at other overlaps.

    Args:
        labels: COCO's json of the ground truth.
        results: COCO's json of the predictions.
        masks: Measure masks in place of boxes.
        most: Predictions of an image and class that count, those of the highest scores.
        ious: Overlaps at which COCO's and VOC's AP are measured too.
        shown: Score from which a prediction counts in the table of images.
        images: Folder of the images, to draw the worst of them.

    Raises:
        DataError: See `read_results`; a box or a mask that is none.
    """
    files = read_results(labels, results)
    found, true = _found(files, masks), _truth(files, masks)
    names = list(files.truth.categories.values())
    overlaps = mask_pairs if masks else box_pairs
    count = max(1, len(names))
    scores = evaluate(found, true, count, overlaps, most)
    columns = ("AP", "AP50", "AP75", f"AR{most}")
    rows: list[dict[str, Any]] = [
        {"class": name, **dict(zip(columns, map(float, values), strict=True)), "objects": int(support)}
        for name, values, support in zip(names, scores.per_class(), scores.support, strict=False)
    ]
    what = "masks" if masks else "boxes"
    sizes = "" if not masks else ", of an unmatched prediction by its bbox where the results have one, as pycocotools"
    protocol = (
        f"COCO AP/AR of {what} (IoU .50:.05:.95, 101 recall points, at most {most} per image and class, crowds left "
        f"out, small, medium and large by the annotation's area in file pixels{sizes}); "
        f"{counted(len(files.truth.images), 'image')}, {counted(len(true), 'object')}, "
        f"{counted(len(found), 'prediction')}; -1 where there is nothing to measure"
    )
    metrics, tables = scores.numbers(), {"per class": rows}
    if ious:
        tables["by IoU"] = by_iou(found, true, count, overlaps, most, ious)
        for row in tables["by IoU"]:
            metrics |= {f"{name}_iou{row['IoU']:.2f}": row[column] for column, name in _BY_IOU.items()}
        protocol += "; VOC's AP over all points and over 11 (voc_ap, voc_ap11), crowds as VOC's difficult objects"
    analysis = DetectionAnalysis(names, masks, most)
    image_names = [str(image.get("file_name", image["id"])) for image in files.truth.images]
    analysis.take(image_names, found, true, shown)
    rows_of = [dict(row) for row in analysis.rows]
    worst = [] if images is None else analysis.worst(lambda number: ImageSource(images / image_names[number]))
    resampled = Resampled.of_images(
        [WeightedObjects(found, true, count, overlaps, most, sorted(set(ious)))], len(files.truth.images)
    )
    return Measured(metrics, protocol, tables, rows_of, files.notes, analysis, worst, resampled)


class WeightedObjects:
    """COCO's twelve numbers, and AP at each of some overlaps, of weighted images; arguments as in `by_iou`."""

    def __init__(
        self, found: Flat, true: Flat, classes: int, overlaps: Overlaps, most: int, ious: Sequence[float]
    ) -> None:
        self._given, self._most, self._ious = (found, true, classes, overlaps), most, ious

    @cached_property
    def _parts(self) -> list[WeightedScores | WeightedVoc]:
        classes, most = self._given[2], self._most
        parts: list[WeightedScores | WeightedVoc] = [WeightedScores(matched(*self._given, most), classes, most, "")]
        if self._ious:
            names = [[f"{name}_iou{iou:.2f}" for name in _BY_IOU.values()] for iou in self._ious]
            coco = matched(*self._given, most, np.array(self._ious))
            parts.append(WeightedOverlaps(coco, classes, [each[0] for each in names]))
            parts += [
                WeightedVoc(voc_matches(*self._given, iou), classes, voc)
                for iou, (_, *voc) in zip(self._ious, names, strict=True)
            ]
        return parts

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name."""
        return {name: value for part in self._parts for name, value in part(weights).items()}


_BY_IOU = {"AP": "ap", "VOC AP": "voc_ap", "VOC AP11": "voc_ap11"}
"""Names of metrics by column of the table of overlaps."""


def by_iou(
    found: Flat, true: Flat, classes: int, overlaps: Overlaps, most: int, ious: Sequence[float]
) -> list[dict[str, Any]]:
    """AP at each of some overlaps: COCO's with 101 recall points, VOC's over all points, VOC's over 11.

    Args:
        found: Objects found.
        true: Objects there are.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        most: Predictions of an image and class that count for COCO's.
        ious: The overlaps.
    """
    sorted_ious = sorted(set(ious))
    coco = evaluate(found, true, classes, overlaps, most, np.array(sorted_ious)).by_overlap()
    rows = []
    for iou, value in zip(sorted_ious, coco.tolist(), strict=True):
        voc = [values[values > -1] for values in voc_ap(found, true, classes, overlaps, iou)]
        area, points = (float(values.mean()) if len(values) else -1.0 for values in voc)
        rows.append({"IoU": iou, "AP": value, "VOC AP": area, "VOC AP11": points})
    return rows


def _truth(files: Results, masks: bool) -> Flat:
    coco = files.truth
    rows = [(number, each) for image, number in files.numbers.items() for each in coco.annotations.get(image, [])]
    rles: list[Rle] = []
    boxes = np.zeros((len(rows), 4))
    for k, (number, each) in enumerate(rows):
        place = f"{coco.path} annotation {each.get('id')}"
        rle = _mask(each, _size(coco, number), place) if masks or each.get("bbox") is None else None
        if masks:
            if rle is None:
                raise DataError(f"{place}: it has no segmentation, so masks cannot be measured")
            rles.append(rle)
        boxes[k] = _sides(each, rle, place)
    given = np.array([each["area"] if finite(each.get("area")) else math.nan for _, each in rows], dtype=np.float64)
    own = mask_areas(rles).astype(np.float64) if masks else boxes[:, 2] * boxes[:, 3]
    return Flat(
        np.array([number for number, _ in rows], dtype=np.int64),
        np.array([files.labels[each["category_id"]] for _, each in rows], dtype=np.int64),
        _corners(boxes),
        np.where(np.isnan(given), own, given),
        crowd=np.array([is_crowd(each, coco.path) for _, each in rows], dtype=bool),
        masks=rles,
        extents=boxes[:, 2] * boxes[:, 3],
    )


def _found(files: Results, masks: bool) -> Flat:
    rles: list[Rle] = []
    boxes = np.zeros((len(files.rows), 4))
    for k, each in enumerate(files.rows):
        place = files.place(k)
        number = files.numbers[each["image_id"]]
        rle = _mask(each, _size(files.truth, number), place) if masks or not each.get("bbox") else None
        if masks:
            if rle is None:
                raise DataError(f"{place}: it has no segmentation, so masks cannot be measured")
            rles.append(rle)
        boxes[k] = _sides(each, rle, place)
    by_box = not masks or bool(files.rows and files.rows[0].get("bbox"))
    return Flat(
        np.array([files.numbers[each["image_id"]] for each in files.rows], dtype=np.int64),
        np.array([files.labels[each["category_id"]] for each in files.rows], dtype=np.int64),
        _corners(boxes),
        boxes[:, 2] * boxes[:, 3] if by_box else mask_areas(rles).astype(np.float64),
        np.array([each["score"] for each in files.rows], dtype=np.float64),
        masks=rles,
        extents=boxes[:, 2] * boxes[:, 3],
    )


def is_crowd(annotation: dict[str, Any], path: Path) -> bool:
    """Whether an annotation is a region of many.

    Raises:
        DataError: The flag is neither a number, a boolean nor such a text.
    """
    place = f"{path} annotation {annotation.get('id')}"
    return flag(annotation.get("iscrowd"), place, "iscrowd")


def _mask(each: dict[str, Any], size: tuple[int, int] | None, place: str) -> Rle | None:
    segment = coco_segment(each.get("segmentation"), size, place)
    if isinstance(segment, list):
        if size is None:
            raise DataError(f"{place}: its image states no height and width, which polygons are drawn on")
        return encode_polygons(segment, size)
    return segment


def _sides(each: dict[str, Any], rle: Rle | None, place: str) -> list[float]:
    """x, y, width and height as the file has them; of the mask where it has no box."""
    if each.get("bbox") or rle is None:
        return four(each.get("bbox"), place)
    x1, y1, x2, y2 = mask_boxes([rle])[0].tolist()
    return [x1, y1, x2 - x1, y2 - y1]


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _size(coco: CocoFile, number: int) -> tuple[int, int] | None:
    image = coco.images[number]
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if finite(height) and finite(width) else None
