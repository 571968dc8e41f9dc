"""Whether two patches show the same point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.labels import LabelFacts

if TYPE_CHECKING:
    from visionkit.images import ImageLike


@dataclass(frozen=True)
class PatchMatch(Prediction):
    """A comparison of two patches.

    Attributes:
        score: The higher, the more alike; its range is the network's own.
        threshold: Score from which the patches count as a match.
    """

    kind: ClassVar[str] = "patch_match"
    label_keys: ClassVar[tuple[str, ...]] = ("match",)
    label_rank: ClassVar[int] = 1

    score: float
    threshold: float = 0.0

    @property
    def is_match(self) -> bool:
        """Whether the patches show the same point."""
        return self.score >= self.threshold

    @property
    def verdict(self) -> str:
        """In words."""
        return "match" if self.is_match else "no match"

    def text(self, top: int = 3) -> str:
        return f"{self.verdict} (score {self.score:.3f}, threshold {self.threshold:.3f})"

    def difference(self, other: Prediction) -> Difference:
        """Difference of the scores, as a part of the score where it is above 1."""
        assert isinstance(other, PatchMatch)
        apart = abs(self.score - other.score) / max(1.0, abs(self.score))
        return Difference(apart, self.is_match == other.is_match)

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.patch_match import draw

        return draw(self, image)

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> PatchMatch | None:
        return cls(0.0).truth(target)

    def class_names(self) -> list[str]:
        return [self.verdict]

    def truth(self, target: Mapping[str, Any]) -> PatchMatch | None:
        return PatchMatch(float(target["match"]), 0.5) if "match" in target else None

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        known: dict[str, str | float | bool] = {}
        verdict: dict[str, str | float | bool] = {}
        if isinstance(truth, PatchMatch):
            known, verdict = {"truth": truth.verdict}, {"correct": truth.is_match == self.is_match}
        return {**known, "prediction": self.verdict, "score": self.score, **verdict}

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "match": self.is_match, "score": self.score, "threshold": self.threshold}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> PatchMatch:
        return cls(float(record["score"]), float(record["threshold"]))
