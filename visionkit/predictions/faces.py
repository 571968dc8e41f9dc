"""Faces in an image: where they are, what distinguishes them, and who they are where that was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Prediction
from visionkit.predictions.labels import LabelFacts
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.images import ImageLike

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The five landmarks of a face as seen: `left` is on the left side of the image."""


@dataclass(frozen=True, eq=False)
class Faces(Prediction):
    """The N faces of an image; an image that is itself a crop of one face has that one.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in file pixels.
        embeddings: (N, D) float32 of length 1; the cosine of two states how alike the faces are.
        scores: (N,) float32, confidence of the finder; 1 where nothing was searched.
        landmarks: (N, 5, 2) float32 x, y in file pixels, see `POINTS`; NaN where they were not looked for.
        names: Who it is, one a face; None is nobody who is known, or nobody was asked for.
        similarities: (N,) float32 cosine with the nearest known person; NaN where nobody was asked for.
        faces_found: How many faces a finder found in the image; None where none was asked.
        whole_image: Whether the one face is the whole image, found by nobody; its score then means nothing.
    """

    kind: ClassVar[str] = "faces"
    label_keys: ClassVar[tuple[str, ...]] = ("identity",)
    label_rank: ClassVar[int] = 1

    boxes: np.ndarray
    embeddings: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    names: tuple[str | None, ...] = ()
    similarities: np.ndarray | None = None
    faces_found: int | None = None
    whole_image: bool = False

    def __post_init__(self) -> None:
        count = len(self.boxes)
        names = tuple(self.names) or (None,) * count
        similarities = np.full(count, np.nan) if self.similarities is None else self.similarities
        embeddings = np.asarray(self.embeddings, np.float32)
        width = embeddings.shape[1] if embeddings.ndim == 2 else 0
        shapes = {
            "boxes": (self.boxes, (count, 4)),
            "embeddings": (embeddings, (count, width)),
            "scores": (self.scores, (count,)),
            "landmarks": (self.landmarks, (count, 5, 2)),
            "similarities": (similarities, (count,)),
        }
        for name, (given, shape) in shapes.items():
            values = np.zeros(shape, np.float32) if count == 0 else np.asarray(given)
            if values.shape != shape:
                raise ValueError(f"{count} faces need {name} of shape {shape}, not {values.shape}")
            values = values.astype(np.float32)
            if name in ("boxes", "embeddings", "scores") and not np.isfinite(values).all():
                raise ValueError(f"{name}: a value is not a finite number")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if len(names) != count:
            raise ValueError(f"{count} faces need as many names, not {len(names)}")
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.boxes)

    def text(self, top: int = 3) -> str:
        if self.whole_image and self.faces_found == 0:
            return "0 faces found; the whole image was taken as one face"
        known = [name for name in self.names if name]
        count = counted(len(self), "face") if len(self) else "0 faces found"
        return f"{count}: {', '.join(known)}" if known else count

    def nothing(self) -> str:
        return "" if len(self) else self.text()

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.faces import draw

        return draw(self, image)

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> Faces | None:
        """The whole image as one face, with the name of its person or the number where nobody is named."""
        person, (height, width) = int(target["identity"]), facts.size
        name = facts.classes[person] if 0 <= person < len(facts.classes) else f"person {person}"
        box = np.array([[0, 0, width, height]], np.float32)
        return cls(box, np.zeros((1, 0)), np.ones(1), np.full((1, 5, 2), np.nan), (name,), whole_image=True)

    def class_names(self) -> list[str]:
        return [name for name in self.names if name]

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        named = [name or "unknown" for name in self.names]
        return {"faces": float(len(self)), "names": ", ".join(named)}

    def to_json(self) -> dict[str, Any]:
        assert self.similarities is not None
        return {
            "kind": self.kind,
            "faces_found": self.faces_found,
            "whole_image": self.whole_image,
            "faces": [
                {
                    "box": box.tolist(),
                    "score": None if self.whole_image else float(score),
                    "landmarks": None if np.isnan(points).any() else points.tolist(),
                    "name": name,
                    "similarity": None if np.isnan(similarity) else float(similarity),
                    "embedding": embedding.tolist(),
                }
                for box, score, points, name, similarity, embedding in zip(
                    self.boxes, self.scores, self.landmarks, self.names, self.similarities, self.embeddings, strict=True
                )
            ],
        }

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Faces:
        faces = record["faces"]
        unknown = [[float("nan")] * 2] * 5
        return cls(
            boxes=np.array([face["box"] for face in faces], np.float32).reshape(-1, 4),
            embeddings=np.array([face["embedding"] for face in faces], np.float32).reshape(len(faces), -1)
            if faces
            else np.zeros((0, 0), np.float32),
            scores=np.array([1.0 if face["score"] is None else face["score"] for face in faces], np.float32),
            landmarks=np.array([face["landmarks"] or unknown for face in faces], np.float32).reshape(-1, 5, 2),
            names=tuple(face["name"] for face in faces),
            similarities=np.array(
                [np.nan if face["similarity"] is None else face["similarity"] for face in faces], np.float32
            ),
            faces_found=record.get("faces_found"),
            whole_image=record.get("whole_image", False),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Faces):
            return NotImplemented
        facts = (self.names, self.faces_found, self.whole_image)
        return facts == (other.names, other.faces_found, other.whole_image) and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True)
            for name in ("boxes", "embeddings", "scores", "landmarks", "similarities")
        )

    __hash__ = None  # type: ignore[assignment]
