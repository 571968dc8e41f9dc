"""The metric that detection and instance segmentation hold, right on any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from visionkit.families.detection.coco_eval.accumulate import COUNTED, RECALL_POINTS, Overlaps, Scores, evaluate
from visionkit.families.detection.coco_eval.confusion import confusion_matrix
from visionkit.families.detection.coco_eval.flat import Flat, box_areas, box_pairs, mask_pairs
from visionkit.families.detection.coco_eval.voc import voc_ap50
from visionkit.families.detection.motion_speed import SPEEDS, of_speed
from visionkit.masks import MaskSet, Rle, mask_areas
from visionkit.predictions.detections import Detections, Instances

if TYPE_CHECKING:
    from visionkit.families.detection.coco_eval.resampling import WeightedDetections

LARGEST_CONFUSION_TABLE = 200

Kind = Literal["box", "mask"]


class DetectionMetrics(Metric):
    """COCO's twelve numbers of boxes and masks, VOC's AP50, curves and confusions of the images seen.

    Takes predictions as they are served, in file pixels, and truth in file pixels, so sizes of objects are what the
    annotation states and nothing is rounded twice. Every process keeps its own images, masks as run lengths; `compute`
    sends them to the first one, which measures and sends the result to the others: the same numbers everywhere,
    whatever the number of processes, since images are put back into the order of the data set.

    `compute` gives scalars `box_ap`, `box_ap50`, `box_ap75`, `box_ap_small`, `box_ap_medium`, `box_ap_large`,
    `box_ar1`, `box_ar10`, `box_ar100`, `box_ar_small`, `box_ar_medium`, `box_ar_large`, the same as `mask_...` where
    masks are measured, `voc_ap50` (area) and `voc_ap50_11` (eleven points) of boxes; -1 where there is no object to
    measure. Where the truth states how objects move (`file_motion`), `voc_ap50_slow`, `voc_ap50_medium` and
    `voc_ap50_fast` are those of objects of one speed, in which the others count neither way. Further tensors are for
    `tables`.

    Args:
        classes: Number of classes K.
        masks: Measure masks too.
        most: Objects of an image and class that are measured. Where it is not COCO's 100, `..._ar100` is named
            after it.
        confusion_score: Score from which an object enters the confusion matrix.

    Example:
        >>> metrics = DetectionMetrics(classes=3)
        >>> metrics.update(task.restore(decoded, batch["geometry"]), batch["target"])
        >>> metrics.compute()["box_ap50"]
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, classes: int, masks: bool = False, most: int = COUNTED, confusion_score: float = 0.5) -> None:
        super().__init__(sync_on_compute=False)  # `compute` gathers by itself, see above
        self.classes, self.masks, self.most, self.confusion_score = classes, masks, most, confusion_score
        self._images: list[ImageObjects] = []

    def reset(self) -> None:
        super().reset()
        self._images = []

    def update(
        self,
        predictions: Sequence[Detections],
        targets: Sequence[Mapping[str, Any]],
        places: Sequence[tuple[str, int]] | None = None,
    ) -> None:
        """Adds images.

        Args:
            predictions: Predictions in file pixels; `Instances` where masks are measured.
            targets: Truth of the same images as evaluation batches carry it: `labels`, `file_boxes` (N, 4) float64,
                or `file_xywh` where the file states x, y, width and height; `area` and `iscrowd` where it has them,
                `file_motion` of objects of videos, and `file_masks` packed by `MaskSet.pack`.
            places: Sequence and frame of images of videos, whose processes each have whole sequences: images are then
                measured in this order.
        """
        for prediction, target, place in zip(predictions, targets, places or [("", 0)] * len(targets), strict=True):
            self._images.append(image_objects(prediction, target, self.masks)._replace(place=place))

    def compute(self) -> dict[str, Tensor]:
        images = _on_first(self._images)
        if images is not None and any(each.place[0] for each in images):
            images = sorted(images, key=lambda each: each.place)
        measured = None if images is None else self._measure(images)
        return {name: torch.from_numpy(np.asarray(value)) for name, value in _from_first(measured).items()}

    def resampler(self) -> WeightedDetections:
        """COCO's and VOC's numbers of images with weights, of the images of this process."""
        from visionkit.families.detection.coco_eval.resampling import WeightedDetections

        return WeightedDetections(list(self._images), self.classes, self.masks, self.most)

    def _measure(self, images: Sequence[ImageObjects]) -> dict[str, np.ndarray]:
        found, true = flatten(images, "box")
        boxes = evaluate(found, true, self.classes, box_pairs, self.most)
        voc = voc_ap50(found, true, self.classes, box_pairs)
        out = _named("box", boxes)
        out["voc_ap50"], out["voc_ap50_11"] = (_mean(each) for each in voc)
        out["voc_per_class"] = np.column_stack([voc.area, voc.points11])
        for speed, counted in truth_by_speed(images, true).items():
            out[f"voc_ap50_{speed}"] = _mean(voc_ap50(found, counted, self.classes, box_pairs).area)
        shared = found, true, self.classes
        kind: Overlaps = box_pairs
        if self.masks:
            shared = *flatten(images, "mask"), self.classes
            kind = mask_pairs
            out |= _named("mask", evaluate(*shared, mask_pairs, self.most))
        if self.classes <= LARGEST_CONFUSION_TABLE:
            out["confusion"] = confusion_matrix(*shared, kind, self.confusion_score)
        return out


def _named(kind: Kind, scores: Scores) -> dict[str, np.ndarray]:
    out = {f"{kind}_{name}": np.array(value, dtype=np.float32) for name, value in scores.numbers().items()}
    # Never a single value, which would be taken for a scalar metric.
    curves = np.stack([scores.precision[0, :, :, 0].T, scores.scores[0].T], axis=-1)
    columns = np.column_stack([scores.per_class(), scores.support])
    return {**out, f"{kind}_curves": curves, f"{kind}_per_class": columns}


def _mean(values: np.ndarray) -> np.ndarray:
    valid = values[values > -1]
    return np.asarray(valid.mean() if valid.size else -1.0, dtype=np.float32)


# ---------------------------------------------------------------------- what is kept of an image


class ImageObjects(NamedTuple):
    """What is found and what there is in one image, in file pixels."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: tuple[Rle, ...]
    true_boxes: np.ndarray
    true_labels: np.ndarray
    areas: np.ndarray | None
    crowd: np.ndarray
    true_masks: tuple[Rle, ...]
    true_extents: np.ndarray
    motion: np.ndarray | None = None
    place: tuple[str, int] = ("", 0)


def truth_by_speed(images: Sequence[Any], true: Flat) -> dict[str, Flat]:
    """The truth in which objects of one speed alone count, by speed; empty where no image states how objects move."""
    if all(each.motion is None for each in images):
        return {}
    parts = [np.full(len(each.true_boxes), np.nan) if each.motion is None else each.motion for each in images]
    motion = np.concatenate(parts)
    return {speed: replace(true, crowd=true.crowd | ~of_speed(motion, speed)) for speed in SPEEDS}


def image_objects(prediction: Detections, target: Mapping[str, Any], masks: bool) -> ImageObjects:
    """What is kept of an image.

    Args:
        prediction: See `DetectionMetrics.update`.
        target: See there.
        masks: Keep masks too.
    """
    boxes = _numbers(target["file_boxes"], np.float64).reshape(-1, 4)
    extents = box_areas(boxes)
    if "file_xywh" in target:
        sides = _numbers(target["file_xywh"], np.float64).reshape(-1, 4)
        boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
        extents = sides[:, 2] * sides[:, 3]
    number = len(boxes)
    crowd = _numbers(target["iscrowd"], np.int64) > 0 if "iscrowd" in target else np.zeros(number, dtype=bool)
    areas = _numbers(target["area"], np.float64) if "area" in target else None
    known = MaskSet.unpack(target["file_masks"]).rles if masks else ()
    outlines = prediction.masks if masks and isinstance(prediction, Instances) else ()
    labels = _numbers(target["labels"], np.int64)
    found = prediction.boxes, prediction.scores, prediction.labels, outlines
    motion = _numbers(target["file_motion"], np.float64) if "file_motion" in target else None
    return ImageObjects(*found, boxes, labels, areas, crowd, known, extents, motion)


def _numbers(values: Any, kind: Any) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return np.asarray(values, dtype=kind)


def flatten(images: Sequence[Any], kind: Kind) -> tuple[Flat, Flat]:
    """Puts images into flat arrays: what was found, and what there is."""
    found_image = np.repeat(np.arange(len(images)), [len(each.scores) for each in images])
    true_image = np.repeat(np.arange(len(images)), [len(each.true_boxes) for each in images])
    boxes = _joined([each.boxes for each in images], (0, 4), np.float64)
    true_boxes = _joined([each.true_boxes for each in images], (0, 4), np.float64)
    scores = _joined([each.scores for each in images], (0,), np.float64)
    labels = _joined([each.labels for each in images], (0,), np.int64)
    true_labels = _joined([each.true_labels for each in images], (0,), np.int64)
    crowd = _joined([each.crowd for each in images], (0,), bool)
    extents = _joined([each.true_extents for each in images], (0,), np.float64)
    masks: list[Rle] = []
    true_masks: list[Rle] = []
    if kind == "mask":
        masks = [rle for each in images for rle in each.masks]
        true_masks = [rle for each in images for rle in each.true_masks]
        own, given = mask_areas(masks).astype(np.float64), mask_areas(true_masks).astype(np.float64)
    else:
        own, given = box_areas(boxes), extents.copy()
    # A data set without areas is measured by those of its masks or boxes, image by image.
    places = np.concatenate([[0], np.cumsum([len(each.true_boxes) for each in images])]).astype(np.int64)
    for number, each in enumerate(images):
        if each.areas is not None:
            given[places[number] : places[number + 1]] = each.areas
    return (
        Flat(found_image, labels, boxes, own, scores, masks=masks),
        Flat(true_image, true_labels, true_boxes, given, crowd=crowd, masks=true_masks, extents=extents),
    )


def _joined(parts: list[np.ndarray], empty: tuple[int, ...], kind: Any) -> np.ndarray:
    return np.concatenate([np.zeros(empty, dtype=kind), *parts]).astype(kind, copy=False)


# ---------------------------------------------------------------------- several processes


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _on_first(images: list[ImageObjects]) -> list[ImageObjects] | None:
    """All images in the order of the data set on the first process; None on the others."""
    if not _several():
        return images
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    parts: list[Any] | None = [None] * world if rank == 0 else None
    torch.distributed.gather_object([tuple(each) for each in images], parts, dst=0)
    if parts is None:
        return None
    # Processes take images in turns (`EpochSampler`), so the k-th of each comes before any k+1-th.
    longest = max(len(part) for part in parts)
    return [ImageObjects(*part[k]) for k in range(longest) for part in parts if k < len(part)]


def _from_first(measured: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    if not _several():
        assert measured is not None
        return measured
    box: list[Any] = [measured]
    torch.distributed.broadcast_object_list(box, src=0)
    out: dict[str, np.ndarray] = box[0]
    return out


# ---------------------------------------------------------------------- tables


def detection_tables(computed: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The tables of a split from what `DetectionMetrics.compute` gave.

    Args:
        computed: See there.
        names: K class names.

    Returns:
        `COCO` (the twelve numbers as papers print them), `per class`, `motion` (by speed, of videos),
        `precision-recall` (precision at overlap .50 by recall, one column a class) and `confusion` (truth by row;
        `nothing` is a miss, or found where nothing is).
    """
    kinds = [kind for kind in ("box", "mask") if f"{kind}_ap" in computed]
    tables = {"COCO": _coco_table(computed, kinds), "per class": _class_table(computed, kinds, names)}
    curves = computed[f"{kinds[-1]}_curves"][..., 0].tolist()
    tables["precision-recall"] = [
        {"recall": round(float(recall), 2), **{name: curve[k] for name, curve in zip(names, curves, strict=True)}}
        for k, recall in enumerate(RECALL_POINTS)
    ]
    if "voc_ap50_slow" in computed:
        tables["motion"] = [{"speed": speed, "VOC AP50": float(computed[f"voc_ap50_{speed}"])} for speed in SPEEDS]
    if "confusion" in computed:
        everything = [*names, "nothing"]
        rows = computed["confusion"].tolist()
        tables["confusion"] = [
            {"truth": name, **dict(zip(everything, row, strict=True))}
            for name, row in zip(everything, rows, strict=True)
        ]
    return tables


def _coco_table(computed: Mapping[str, Tensor], kinds: Sequence[str]) -> list[dict[str, Any]]:
    lines = {
        "ap": "AP, IoU .50:.95",
        "ap50": "AP, IoU .50",
        "ap75": "AP, IoU .75",
        **{f"ap_{area}": f"AP, {area}" for area in ("small", "medium", "large")},
        **{f"ar{most}": f"AR, at most {most} per image and class" for most in _counts(computed)},
        **{f"ar_{area}": f"AR, {area}" for area in ("small", "medium", "large")},
    }
    return [
        {"measure": line, **{kind: float(computed[f"{kind}_{name}"]) for kind in kinds}} for name, line in lines.items()
    ]


def _counts(computed: Mapping[str, Tensor]) -> list[int]:
    """How many objects of an image and class the recalls were taken over: 1, 10 and most often 100."""
    endings = [name.rsplit("_ar", 1)[1] for name in computed if "_ar" in name]
    return sorted({int(count) for count in endings if count.isdecimal()})


def _class_table(computed: Mapping[str, Tensor], kinds: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for k, name in enumerate(names):
        row: dict[str, Any] = {"class": name}
        for kind in kinds:
            values = computed[f"{kind}_per_class"][k].tolist()
            columns = ("AP", "AP50", "AP75", f"AR{_counts(computed)[-1]}")
            row |= {f"{kind} {column}": value for column, value in zip(columns, values, strict=False)}
            row["objects"] = int(values[-1])
        row["VOC AP50"] = float(computed["voc_per_class"][k, 0])
        out.append(row)
    return out
