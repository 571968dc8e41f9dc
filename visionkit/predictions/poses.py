"""Where the keypoints of people, animals or hands are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.labels import LabelFacts
from visionkit.skeleton import Skeleton
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.images import ImageLike

SHOWN_FROM = 0.3
"""Score from which a person or a keypoint is drawn and listed where nobody asked for another."""


@dataclass(frozen=True, eq=False)
class Poses(Prediction):
    """The people of one image (or whatever has the skeleton's keypoints), highest-scoring first.

    Attributes:
        skeleton: Names the keypoints and states what is drawn between them.
        keypoints: (N, K, 2) float32 x, y in file pixels.
        keypoint_scores: (N, K) float32 in [0, 1].
        scores: (N,) float32 in [0, 1] of the whole person; given in any order, kept falling.
        boxes: (N, 4) float32, x1, y1, x2, y2 in file pixels, x2 and y2 exclusive: the person as it was found.
        threshold: Score from which people are drawn and counted.
        keypoint_threshold: Score from which a keypoint counts as visible; below it is a guess that is not drawn.
    """

    kind: ClassVar[str] = "poses"
    label_keys: ClassVar[tuple[str, ...]] = ("keypoints",)
    label_rank: ClassVar[int] = 3

    skeleton: Skeleton
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    threshold: float = SHOWN_FROM
    keypoint_threshold: float = SHOWN_FROM

    def __post_init__(self) -> None:
        count = len(self.skeleton)
        keypoints = np.asarray(self.keypoints, dtype=np.float32).reshape(-1, count, 2)
        keypoint_scores = np.asarray(self.keypoint_scores, dtype=np.float32).reshape(-1, count)
        scores = np.asarray(self.scores, dtype=np.float32).reshape(-1)
        boxes = np.asarray(self.boxes, dtype=np.float32).reshape(-1, 4)
        if not len(keypoints) == len(keypoint_scores) == len(scores) == len(boxes):
            raise ValueError(
                f"{len(keypoints)} people, {len(keypoint_scores)} rows of keypoint scores, {len(scores)} scores and "
                f"{len(boxes)} boxes are not one each"
            )
        for name, values in (
            ("keypoints", keypoints),
            ("keypoint_scores", keypoint_scores),
            ("scores", scores),
            ("boxes", boxes),
        ):
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: a value is not a finite number")
        order = np.argsort(-scores, kind="stable")
        for name, values in (
            ("keypoints", keypoints),
            ("keypoint_scores", keypoint_scores),
            ("scores", scores),
            ("boxes", boxes),
        ):
            kept = values[order]
            kept.setflags(write=False)
            object.__setattr__(self, name, kept)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def visible(self) -> np.ndarray:
        """(N, K) bool: keypoints whose score is above `keypoint_threshold`."""
        return np.asarray(self.keypoint_scores >= np.float32(self.keypoint_threshold))

    @classmethod
    def none(cls, skeleton: Skeleton, threshold: float = SHOWN_FROM, keypoint_threshold: float = SHOWN_FROM) -> Poses:
        """An image without anybody."""
        empty = np.zeros(0, dtype=np.float32)
        return cls(skeleton, empty, empty, empty, empty, threshold, keypoint_threshold)

    def chosen(self, keep: np.ndarray) -> Poses:
        """Some of the people.

        Args:
            keep: (N,) bool, or (M,) numbers of people.
        """
        rows = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=np.int64)
        parts: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in ("keypoints", "keypoint_scores", "scores", "boxes")
        }
        return replace(self, **parts)

    def above(self, score: float | None = None) -> Poses:
        """The people from a score on; from `threshold` on where none is given."""
        return self.chosen(self.scores >= np.float32(self.threshold if score is None else score))

    @staticmethod
    def joined(parts: list[Poses]) -> Poses:
        """The people of several predictions on one image in one.

        Args:
            parts: At least one, all with one skeleton.
        """
        first = parts[0]
        names = ("keypoints", "keypoint_scores", "scores", "boxes")
        together: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return replace(first, **together)

    def text(self, top: int = 3) -> str:
        shown, subject = self.above(), self.skeleton.subject
        if not len(shown):
            return f"{counted(0, subject)} found"
        keypoints = ", ".join(f"{int(seen.sum())} of {len(self.skeleton)} keypoints" for seen in shown.visible[:top])
        return f"{counted(len(shown), subject)} ({keypoints}{', ...' if len(shown) > top else ''})"

    def nothing(self) -> str:
        return "" if len(self.above()) else self.text()

    def difference(self, other: Prediction) -> Difference:
        """Largest difference of the scores, and of visible keypoints as a fraction of the person's size."""
        assert isinstance(other, Poses)
        if len(self) != len(other):
            return Difference(1.0, False)
        of_scores = float(np.abs(self.keypoint_scores - other.keypoint_scores).max(initial=0.0))
        sides = np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 1.0).max(axis=1, initial=1.0)
        far = np.linalg.norm(self.keypoints - other.keypoints, axis=2) / sides[:, None]
        of_places = float(far[self.visible | other.visible].max(initial=0.0))
        return Difference(max(of_scores, of_places), bool((self.visible == other.visible).all()))

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.poses import draw

        return draw(self, image)

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> Poses | None:
        if facts.skeleton is None:
            return None
        places = np.asarray(target["keypoints"], dtype=np.float32)
        known = places[..., 2:] > 0
        return cls.none(facts.skeleton).truth({"keypoints": np.where(known, places, 0)})

    def class_names(self) -> list[str]:
        return [self.skeleton.subject] if len(self.above()) else []

    def truth(self, target: Mapping[str, Any]) -> Poses | None:
        if "keypoints" not in target:
            return None
        places = np.asarray(target["keypoints"], dtype=np.float32).reshape(-1, len(self.skeleton), 3)
        labeled = places[..., 2] > 0
        places, labeled = places[labeled.any(axis=1)], labeled[labeled.any(axis=1)]
        boxes = np.array([_around(p[s, :2]) for p, s in zip(places, labeled, strict=True)], np.float32).reshape(-1, 4)
        ones = np.ones(len(places), np.float32)
        return Poses(self.skeleton, places[..., :2], labeled.astype(np.float32), ones, boxes, 0.0, 0.5)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        known: dict[str, str | float | bool] = {}
        if isinstance(truth, Poses):
            known = {"truth": len(truth)}
        best = float(self.scores[0]) if len(self) else 0.0
        return {**known, "prediction": len(self.above()), "best score": best}

    def to_json(self) -> dict[str, Any]:
        skeleton = self.skeleton
        return {
            "kind": self.kind,
            "skeleton": {
                "name": skeleton.name,
                "keypoints": list(skeleton.keypoints),
                "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
                "edges": [[edge.first, edge.second, list(edge.color)] for edge in skeleton.edges],
                "sigmas": None if skeleton.sigmas is None else list(skeleton.sigmas),
                "subject": skeleton.subject,
                "head": list(skeleton.head),
                "torso": list(skeleton.torso),
            },
            "people": [self._person(number) for number in range(len(self))],
            "threshold": self.threshold,
            "keypoint_threshold": self.keypoint_threshold,
        }

    def _person(self, number: int) -> dict[str, Any]:
        rows = zip(
            self.skeleton.keypoints,
            self.keypoints[number],
            self.keypoint_scores[number],
            self.visible[number],
            strict=True,
        )
        return {
            "score": float(self.scores[number]),
            "box": [float(value) for value in self.boxes[number]],
            "keypoints": [
                {"name": name, "x": float(place[0]), "y": float(place[1]), "score": float(score), "visible": bool(seen)}
                for name, place, score, seen in rows
            ],
        }

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Poses:
        people = record["people"]
        skeleton = Skeleton.of(record["skeleton"])
        return cls(
            skeleton,
            np.array([[(j["x"], j["y"]) for j in each["keypoints"]] for each in people], dtype=np.float32),
            np.array([[j["score"] for j in each["keypoints"]] for each in people], dtype=np.float32),
            np.array([each["score"] for each in people], dtype=np.float32),
            np.array([each["box"] for each in people], dtype=np.float32),
            float(record["threshold"]),
            float(record["keypoint_threshold"]),
        )

    @property
    def coco_classes(self) -> tuple[str, ...]:
        return (self.skeleton.subject,)

    def coco_results(self, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
        """The people as COCO's results json needs them: `keypoints` is x, y, score of every keypoint."""
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "keypoints": np.column_stack([keypoints, scores]).round(3).ravel().tolist(),
                "score": float(score),
            }
            for keypoints, scores, score in zip(self.keypoints, self.keypoint_scores, self.scores, strict=True)
        ]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Poses):
            return NotImplemented
        same = (self.skeleton, self.threshold, self.keypoint_threshold) == (
            other.skeleton,
            other.threshold,
            other.keypoint_threshold,
        )
        names = ("keypoints", "keypoint_scores", "scores", "boxes")
        return same and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]


def _around(places: np.ndarray) -> np.ndarray:
    return np.concatenate([places.min(axis=0), places.max(axis=0)])
