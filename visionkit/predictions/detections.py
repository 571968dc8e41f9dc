"""Which objects an image shows and where: boxes, and masks for instance segmentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from visionkit.masks import MaskSet, Rle, decode_crop, encode_masks, resized_masks
from visionkit.predictions.base import Difference, Overlay, Prediction
from visionkit.predictions.labels import LabelFacts, extended
from visionkit.types import IGNORE

if TYPE_CHECKING:
    from visionkit.images import ImageLike

SHOWN_FROM = 0.5
"""Score from which an object is drawn and listed where nobody asked for another."""

_NEAR = 0.01
"""Two objects are the same where neither score nor position, as a part of the image, differs by more."""


@dataclass(frozen=True, eq=False)
class Detections(Prediction):
    """The objects of one image, highest-scoring first.

    Attributes:
        classes: K class names in label order.
        size: Height and width of the image in file pixels.
        boxes: (N, 4) float32, x1, y1, x2, y2 in file pixels, x2 and y2 exclusive; float64 stays as it is, so that
            results read from a file are measured to the last digit.
        scores: (N,) float32 in [0, 1]; given in any order, kept falling, equal ones in the order given.
        labels: (N,) int64, 0-based numbers into `classes`.
        threshold: Score from which objects are drawn and counted; what is below is kept for the metric and for json.
    """

    kind: ClassVar[str] = "detections"
    label_keys: ClassVar[tuple[str, ...]] = ("boxes",)
    label_rank: ClassVar[int] = 1

    classes: tuple[str, ...]
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    threshold: float = SHOWN_FROM

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes).reshape(-1, 4)
        boxes = boxes.astype(np.float32) if boxes.dtype != np.float64 else boxes
        scores = np.asarray(self.scores, dtype=np.float32).reshape(-1)
        labels = np.asarray(self.labels, dtype=np.int64).reshape(-1)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels are not one each")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("a box or a score is not a finite number")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise ValueError(
                f"labels run from {labels.min()} to {labels.max()}, classes from 0 to {len(self.classes) - 1}"
            )
        order = np.argsort(-scores, kind="stable")
        for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            kept = values[order]  # a copy, which nobody else can change
            kept.setflags(write=False)
            object.__setattr__(self, name, kept)
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        self._reorder(order)

    def _reorder(self, order: np.ndarray) -> None:
        """Brings what a subclass holds into the order of the scores."""

    def __len__(self) -> int:
        return len(self.scores)

    def chosen(self, keep: np.ndarray) -> Self:
        """Some of the objects.

        Args:
            keep: (N,) bool, or (M,) numbers of objects.
        """
        rows = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=np.int64)
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows])

    def above(self, score: float | None = None) -> Self:
        """The objects from a score on; from `threshold` on where none is given."""
        return self.chosen(self.scores >= np.float32(self.threshold if score is None else score))

    def with_threshold(self, score: float) -> Self:
        """The same objects, drawn and counted from another score on."""
        return replace(self, threshold=score)

    def resized(self, size: tuple[int, int]) -> Self:
        """The same objects in an image of another height and width."""
        factors = np.array([size[1] / self.size[1], size[0] / self.size[0]] * 2)
        return replace(self, size=size, boxes=(self.boxes * factors).astype(self.boxes.dtype))

    @property
    def names(self) -> list[str]:
        """The class name of each object."""
        return [self.classes[label] for label in self.labels]

    def text(self, top: int = 3) -> str:
        shown = self.above()
        if not len(shown):
            best = f" (highest-scoring: {self.names[0]} {self.scores[0]:.2f})" if len(self) else ""
            return f"0 objects found{best}"
        best = ", ".join(
            f"{name} {score:.2f}" for name, score in zip(shown.names[:top], shown.scores[:top], strict=True)
        )
        counts = Counter(shown.names).most_common()
        message = ", ".join(f"{number} {name}" for name, number in counts[:top])
        rest = f" and {len(counts) - top} more classes" if len(counts) > top else ""
        return best if len(shown) <= top else f"{message}{rest}; the highest-scoring {best.split(',')[0]}"

    def nothing(self) -> str:
        return "" if len(self.above()) else self.text()

    def difference(self, other: Prediction) -> Difference:
        """Largest difference of a score, or of a box coordinate as a part of the image's longer side.

        Objects are paired by class and position, since two of almost one score may change their order. One without a
        partner counts with its whole score, unless it is among the last ones, where rounding decides what is kept.
        """
        assert isinstance(other, Detections)
        lowest = min([*self.scores, *other.scores], default=0.0)
        apart, free = 0.0, set(range(len(other)))
        alone: list[float] = []
        for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True):
            rows = [k for k in free if other.labels[k] == label and abs(other.scores[k] - score) <= _NEAR]
            far = [float(np.abs(other.boxes[k] - box).max()) / max(self.size) for k in rows]
            if not rows or min(far) > _NEAR:
                alone.append(float(score))
                continue
            k = rows[int(np.argmin(far))]
            free.remove(k)
            apart = max(apart, min(far), abs(float(other.scores[k] - score)))
        alone += [float(other.scores[k]) for k in free]
        for score in alone:
            at_the_end = score - lowest <= _NEAR and score <= 0.25
            apart = max(apart, score - lowest if at_the_end else score)
        return Difference(apart, len(self.above()) == len(other.above()))

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.detections import draw

        return draw(self, image)

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """Drawn and counted from the score that the call asked for."""
        score = options.get("score_threshold")
        return self if score is None else self.with_threshold(float(score))

    @property
    def coco_classes(self) -> tuple[str, ...]:
        return self.classes

    def coco_results(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        rows = []
        for label, box, score in zip(self.labels.tolist(), self.boxes, self.scores, strict=True):
            x1, y1, x2, y2 = (round(float(value), 3) for value in box)
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": category_id + label,
                    "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                    "score": round(float(score), 5),
                }
            )
        return rows

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> Prediction | None:
        """Boxes, and masks where the target has them; boxes that are no numbers are left out."""
        if "boxes" not in target:
            return None
        boxes = np.asarray(target["boxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(target.get("labels", np.zeros(len(boxes))), dtype=np.int64).reshape(-1)
        kept = np.asarray(np.isfinite(boxes).all(axis=1))
        classes, labels = extended(facts.classes, labels)
        none = np.zeros(0, np.float32)
        blank = cls(classes, facts.size, none, none, none, 0.0)
        found = blank.truth({**target, "boxes": np.where(kept[:, None], boxes, 0), "labels": labels})
        return found.chosen(kept) if isinstance(found, Detections) and not kept.all() else found

    def class_names(self) -> list[str]:
        return list(dict.fromkeys(self.above().names))

    def truth(self, target: Mapping[str, Any]) -> Prediction | None:
        if "boxes" not in target or "labels" not in target:
            return None
        labels = np.asarray(target["labels"], dtype=np.int64).reshape(-1)
        boxes = np.asarray(target["boxes"], dtype=np.float32).reshape(-1, 4)
        return Detections(self.classes, self.size, boxes, np.ones(len(labels), np.float32), labels, 0.0)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        known: dict[str, str | float | bool] = {}
        if isinstance(truth, Detections):
            known = {"truth": truth._counted()}
        best = float(self.scores[0]) if len(self) else 0.0
        return {**known, "prediction": self._counted(), "objects": len(self.above()), "best score": best}

    def overlay(self, size: tuple[int, int]) -> Overlay | None:
        fractions = self.boxes / np.array([self.size[1], self.size[0]] * 2)
        return Overlay(self.classes, None, fractions.clip(0, 1), self.labels, self.scores)

    def _counted(self) -> str:
        """`3 RBC, 1 WBC`: what is shown, the most frequent class first."""
        counts = Counter(self.above().names).most_common()
        return ", ".join(f"{number} {name}" for name, number in counts) or "nothing"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "size": list(self.size),
            "objects": [self._object(number) for number in range(len(self))],
            "classes": list(self.classes),
            "threshold": self.threshold,
        }

    def _object(self, number: int) -> dict[str, Any]:
        label = int(self.labels[number])
        return {
            "class": self.classes[label],
            "label": label,
            "score": float(self.scores[number]),
            "box": [float(value) for value in self.boxes[number]],
        }

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Self:
        objects = record["objects"]
        return cls(**cls._arguments(record, objects))

    @classmethod
    def _arguments(cls, record: Mapping[str, Any], objects: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "classes": tuple(record["classes"]),
            "size": (record["size"][0], record["size"][1]),
            "boxes": np.array([each["box"] for each in objects], dtype=np.float32).reshape(-1, 4),
            "scores": np.array([each["score"] for each in objects], dtype=np.float32),
            "labels": np.array([each["label"] for each in objects], dtype=np.int64),
            "threshold": float(record["threshold"]),
        }

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Detections)
        same = (self.classes, self.size, self.threshold) == (other.classes, other.size, other.threshold)
        arrays = ((self.boxes, other.boxes), (self.scores, other.scores), (self.labels, other.labels))
        return same and all(np.array_equal(a, b) for a, b in arrays)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Instances(Detections):
    """The objects of one image with their outlines.

    Attributes:
        masks: N masks as COCO's compressed run lengths, `{"size": [h, w], "counts": "..."}`, in file pixels, in the
            order of the scores given.
    """

    kind: ClassVar[str] = "instances"
    label_keys: ClassVar[tuple[str, ...]] = ("masks",)
    label_rank: ClassVar[int] = 2

    masks: tuple[Rle, ...] = ()

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.scores):
            raise ValueError(f"{len(self.scores)} objects need as many masks, not {len(self.masks)}")
        wanted = [int(side) for side in self.size]
        for mask in self.masks:
            if list(mask["size"]) != wanted:
                raise ValueError(f"a mask of size {list(mask['size'])} for an image of size {wanted}")
        super().__post_init__()

    def _reorder(self, order: np.ndarray) -> None:
        object.__setattr__(self, "masks", tuple(self.masks[number] for number in order))

    def chosen(self, keep: np.ndarray) -> Self:
        rows = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=np.int64)
        masks = tuple(self.masks[number] for number in rows)
        return replace(self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows], masks=masks)

    def resized(self, size: tuple[int, int]) -> Self:
        factors = np.array([size[1] / self.size[1], size[0] / self.size[0]] * 2)
        boxes = (self.boxes * factors).astype(self.boxes.dtype)
        return replace(self, size=size, boxes=boxes, masks=tuple(resized_masks(self.masks, size)))

    def truth(self, target: Mapping[str, Any]) -> Prediction | None:
        boxes = super().truth(target)
        if not isinstance(boxes, Detections) or "masks" not in target:
            return boxes
        given = target["masks"]
        masks = given.rles if isinstance(given, MaskSet) else encode_masks(np.asarray(given))
        return Instances(self.classes, self.size, boxes.boxes, boxes.scores, boxes.labels, 0.0, tuple(masks))

    def overlay(self, size: tuple[int, int]) -> Overlay | None:
        boxes = super().overlay(size)
        if boxes is None or len(self.classes) > IGNORE:
            return boxes
        shown = self.above()
        labels = np.full(size, IGNORE, dtype=np.uint8)
        masks = resized_masks(shown.masks, size)
        for label, mask in zip(shown.labels[::-1], masks[::-1], strict=True):  # the highest-scoring lies on top
            x1, y1, x2, y2, crop = decode_crop(mask)
            labels[y1:y2, x1:x2][crop] = label
        return replace(boxes, labels=labels)

    def coco_results(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        rows = super().coco_results(image_id, category_id)
        return [{**row, "segmentation": dict(mask)} for row, mask in zip(rows, self.masks, strict=True)]

    def _object(self, number: int) -> dict[str, Any]:
        return {**super()._object(number), "mask": dict(self.masks[number])}

    @classmethod
    def _arguments(cls, record: Mapping[str, Any], objects: list[Mapping[str, Any]]) -> dict[str, Any]:
        masks = tuple(Rle(size=list(each["mask"]["size"]), counts=each["mask"]["counts"]) for each in objects)
        return {**super()._arguments(record, objects), "masks": masks}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instances):
            return NotImplemented
        return super().__eq__(other) and self.masks == other.masks

    __hash__ = None
