"""What people receive: frozen values of numpy arrays in file pixels, with json both ways.

Outside of learning nothing is a tensor. Each kind of answer is one class; `visionkit.drawing` draws it and the demo
has one view for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np


class Prediction(ABC):
    """Base of every answer; `kind` names it in json."""

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Prediction]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Prediction._kinds[cls.kind] = cls

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain json types; `from_json` gives an equal value back."""

    @classmethod
    @abstractmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Prediction: ...

    def truth(self, target: Mapping[str, Any]) -> Prediction | None:
        """The right answer for the same picture, in the form of this one, to be drawn beside it.

        Args:
            target: See `visionkit.types.Target`, in file pixels.

        Returns:
            None where the target does not say, or the kind has no such form.
        """
        return None

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        """What a table of pictures says of this answer, by column; by default nothing.

        Args:
            truth: What `truth` gave.
        """
        return {}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Prediction:
        """Reads what `to_json` wrote, of whichever kind.

        Raises:
            ValueError: The record names a kind that is unknown here.
        """
        kind = record.get("kind")
        if kind not in Prediction._kinds:
            raise ValueError(f"unknown kind of prediction {kind!r}; known are {', '.join(sorted(Prediction._kinds))}")
        return Prediction._kinds[kind]._from_json(record)


class Label(NamedTuple):
    """One class with its probability."""

    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Classification(Prediction):
    """The classes of a whole picture.

    Attributes:
        classes: K class names in label order.
        probabilities: (K,) float32 in [0, 1]; they sum to 1 unless `multilabel`.
        multilabel: Each class is judged by itself and several may hold.
        threshold: For `multilabel`, the probability from which a class holds.
    """

    kind: ClassVar[str] = "classification"

    classes: tuple[str, ...]
    probabilities: np.ndarray
    multilabel: bool = False
    threshold: float = 0.5

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, dtype=np.float32)
        if values.shape != (len(self.classes),):
            raise ValueError(f"{len(self.classes)} classes need {len(self.classes)} probabilities, not {values.shape}")
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

    def truth(self, target: Mapping[str, Any]) -> Classification | None:
        if "labels" not in target:
            return None
        labels = np.asarray(target["labels"])
        held = labels if self.multilabel else np.arange(len(self.classes)) == labels
        return Classification(self.classes, held.astype(np.float32), self.multilabel, self.threshold)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        said = [label.name for label in self.labels]
        known: dict[str, str | float | bool] = {}
        verdict: dict[str, str | float | bool] = {}
        if isinstance(truth, Classification):
            names = [label.name for label in truth.labels]
            known, verdict = {"truth": ", ".join(names)}, {"correct": set(names) == set(said)}
        return {**known, "prediction": ", ".join(said), "probability": self.best.probability, **verdict}

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "labels": [label._asdict() for label in self.labels],
            "probabilities": {name: float(p) for name, p in zip(self.classes, self.probabilities, strict=True)},
            "multilabel": self.multilabel,
            "threshold": self.threshold,
        }

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Classification:
        table = record["probabilities"]
        values = np.array(list(table.values()), dtype=np.float32)
        return cls(tuple(table), values, bool(record["multilabel"]), float(record["threshold"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Classification):
            return NotImplemented
        same = (self.classes, self.multilabel, self.threshold) == (other.classes, other.multilabel, other.threshold)
        return same and bool(np.array_equal(self.probabilities, other.probabilities))

    __hash__ = None  # type: ignore[assignment]
