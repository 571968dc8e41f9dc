"""Which classes an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.labels import LabelFacts, extended

if TYPE_CHECKING:
    from visionkit.images import ImageLike


class Label(NamedTuple):
    """One class with its probability."""

    name: str
    probability: float

    def __str__(self) -> str:
        return f"{self.name} {self.probability:.1%}"


@dataclass(frozen=True, eq=False)
class Classification(Prediction):
    """The classes of a whole image.

    Attributes:
        classes: K class names in label order.
        probabilities: (K,) float32 in [0, 1]; they sum to 1 unless `multilabel`.
        multilabel: Each class is judged by itself and several may hold.
        threshold: For `multilabel`, the probability from which a class holds.
        prediction_set: Classes of the conformal set, the most probable first; empty where the model makes no sets.
        coverage: Fraction of images whose set holds the true class, as the model was calibrated; 0 without sets.
    """

    kind: ClassVar[str] = "classification"
    label_keys: ClassVar[tuple[str, ...]] = ("labels",)

    classes: tuple[str, ...]
    probabilities: np.ndarray
    multilabel: bool = False
    threshold: float = 0.5
    prediction_set: tuple[str, ...] = ()
    coverage: float = 0.0

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, dtype=np.float32)
        if values.shape != (len(self.classes),):
            raise ValueError(f"{len(self.classes)} classes need {len(self.classes)} probabilities, not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("a probability is not a finite number")
        values.setflags(write=False)
        object.__setattr__(self, "probabilities", values)
        object.__setattr__(self, "classes", tuple(self.classes))

    def top(self, k: int = 5) -> list[Label]:
        """The k most probable classes, the best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [Label(self.classes[i], float(self.probabilities[i])) for i in order]

    @property
    def best(self) -> Label:
        """The most probable class."""
        return self.top(1)[0]

    @property
    def labels(self) -> list[Label]:
        """The classes that hold: those over the threshold of a multi-label task, otherwise the best one."""
        if not self.multilabel:
            return [self.best]
        return [label for label in self.top(len(self.classes)) if label.probability >= self.threshold]

    def text(self, top: int = 3) -> str:
        if self.multilabel and not self.labels:
            return f"none of the classes (the nearest: {self.best})"
        named = ", ".join(map(str, self.labels[:top] if self.multilabel else self.top(top)))
        return f"{named}; {self.set_text()}" if self.prediction_set else named

    def set_text(self, most: int = 10) -> str:
        """The prediction set in words, with at most `most` names; empty where there is none."""
        names, rest = self.prediction_set[:most], len(self.prediction_set) - most
        more = f" and {rest} more" if rest > 0 else ""
        return f"{100 * self.coverage:.4g} % set: {', '.join(names)}{more}" if names else ""

    def nothing(self) -> str:
        return "" if self.labels else self.text()

    def difference(self, other: Prediction) -> Difference:
        """Largest difference of a probability; they mean the same where the same classes hold."""
        assert isinstance(other, Classification)
        same = {label.name for label in self.labels} == {label.name for label in other.labels}
        return Difference(float(np.abs(self.probabilities - other.probabilities).max()), same)

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.classification import draw

        return draw(self, image)

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> Classification | None:
        """The class or the classes of the image alone, each with probability 1."""
        labels = np.asarray(target["labels"])
        if labels.ndim and not len(labels):
            return None
        classes = facts.classes
        if labels.ndim == 0:
            classes, (labels,) = extended(classes, labels.astype(np.int64).reshape(1))
        elif len(labels) > len(classes):
            classes = (*classes, *(f"class {number}" for number in range(len(classes), len(labels))))
        return cls(classes, np.zeros(len(classes), np.float32), multilabel=True).truth({"labels": labels})

    def class_names(self) -> list[str]:
        return [label.name for label in self.labels]

    def truth(self, target: Mapping[str, Any]) -> Classification | None:
        if "labels" not in target:
            return None
        labels = np.asarray(target["labels"])
        # A vector holds several labels, or the fractions of one in a mixed image.
        held = labels if labels.ndim else np.arange(len(self.classes)) == labels
        return Classification(self.classes, held.astype(np.float32), self.multilabel, self.threshold)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        predicted = [label.name for label in self.labels]
        known: dict[str, str | float | bool] = {}
        verdict: dict[str, str | float | bool] = {}
        if isinstance(truth, Classification):
            names = [label.name for label in truth.labels]
            known, verdict = {"truth": ", ".join(names)}, {"correct": set(names) == set(predicted)}
        if self.prediction_set:
            verdict["set size"] = len(self.prediction_set)
            if known:
                verdict["in set"] = known["truth"] in self.prediction_set
        return {**known, "prediction": ", ".join(predicted), "probability": self.best.probability, **verdict}

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "labels": [label._asdict() for label in self.labels],
            "probabilities": {name: float(p) for name, p in zip(self.classes, self.probabilities, strict=True)},
            "multilabel": self.multilabel,
            "threshold": self.threshold,
            **({"prediction_set": list(self.prediction_set), "coverage": self.coverage} if self.prediction_set else {}),
        }

    def record(self, top: int | None = None) -> dict[str, Any]:
        record = self.to_json()
        if top is not None:
            record["probabilities"] = {label.name: label.probability for label in self.top(top)}
        return record

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Classification:
        table = record["probabilities"]
        values = np.array(list(table.values()), dtype=np.float32)
        sets = tuple(record.get("prediction_set", ())), float(record.get("coverage", 0))
        return cls(tuple(table), values, bool(record["multilabel"]), float(record["threshold"]), *sets)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Classification):
            return NotImplemented
        same = all(
            getattr(self, name) == getattr(other, name)
            for name in ("classes", "multilabel", "threshold", "prediction_set", "coverage")
        )
        return same and bool(np.array_equal(self.probabilities, other.probabilities))

    __hash__ = None  # type: ignore[assignment]
