"""Which objects a frame of a video shows, and which of the frames before they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from visionkit.predictions.detections import Detections

if TYPE_CHECKING:
    from visionkit.images import ImageLike


@dataclass(frozen=True, eq=False)
class Tracks(Detections):
    """The objects of one frame with an id each.

    Attributes:
        ids: (N,) int64, the same number for an object in all frames, from 1; in the order of the scores given.
    """

    kind: ClassVar[str] = "tracks"
    label_keys: ClassVar[tuple[str, ...]] = ()

    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.scores):
            raise ValueError(f"{len(self.scores)} objects need as many ids, not {len(self.ids)}")
        super().__post_init__()

    def _reorder(self, order: np.ndarray) -> None:
        kept = np.asarray(self.ids, dtype=np.int64)[order]
        if len(np.unique(kept)) != len(kept):
            raise ValueError("an id is one object of a frame")
        kept.setflags(write=False)
        object.__setattr__(self, "ids", kept)

    def chosen(self, keep: np.ndarray) -> Self:
        rows = np.flatnonzero(keep) if np.asarray(keep).dtype == bool else np.asarray(keep, dtype=np.int64)
        return replace(
            self, boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows], ids=self.ids[rows]
        )

    def text(self, top: int = 3) -> str:
        shown = self.above()
        if len(shown) > top or not len(shown):
            return super().text(top)
        return ", ".join(f"{name} {number}" for name, number in zip(shown.names, shown.ids, strict=True))

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.tracks import draw

        return draw(self, image)

    def _object(self, number: int) -> dict[str, Any]:
        return {"id": int(self.ids[number]), **super()._object(number)}

    @classmethod
    def _arguments(cls, record: Mapping[str, Any], objects: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {**super()._arguments(record, objects), "ids": np.array([each["id"] for each in objects], np.int64)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tracks):
            return NotImplemented
        return super().__eq__(other) and np.array_equal(self.ids, other.ids)

    __hash__ = None
