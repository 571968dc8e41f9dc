"""The answers of several heads on one picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from visionkit.predictions.base import Prediction


@dataclass(frozen=True, eq=False)
class Answers(Prediction, Mapping[str, Prediction]):
    """What each head of one network says of a picture: a mapping from the head's name to its prediction.

        >>> answers = load("joint.ckpt")("photo.jpg")
        >>> answers["objects"].above()

    Attributes:
        parts: The prediction of each head, in the order of the heads.
    """

    kind: ClassVar[str] = "answers"

    parts: Mapping[str, Prediction]

    def __post_init__(self) -> None:
        for name, part in self.parts.items():
            if not isinstance(part, Prediction) or isinstance(part, Answers):
                raise ValueError(f"the answer of {name} is no prediction of one head: {type(part).__name__}")
        object.__setattr__(self, "parts", dict(self.parts))

    def __getitem__(self, name: str) -> Prediction:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def truth(self, target: Mapping[str, Any]) -> Answers | None:
        """The right answer of every head whose label is known."""
        known = target.get("heads", {})
        found = {name: part.truth(known[name]) for name, part in self.parts.items() if name in known}
        told = {name: part for name, part in found.items() if part is not None}
        return Answers(told) if told else None

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        """The columns of every head, under its name."""
        known = truth.parts if isinstance(truth, Answers) else {}
        return {
            f"{name}/{column}": value
            for name, part in self.parts.items()
            for column, value in part.row(known.get(name)).items()
        }

    def summary(self) -> dict[str, Any]:
        """The records of all heads without pixels."""
        return {"kind": self.kind, "heads": {name: part.summary() for name, part in self.parts.items()}}

    def to_json(self) -> dict[str, Any]:
        """`heads` maps each name to the record of its prediction."""
        return {"kind": self.kind, "heads": {name: part.to_json() for name, part in self.parts.items()}}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> Answers:
        return cls({name: Prediction.from_json(each) for name, each in record["heads"].items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answers):
            return NotImplemented
        return list(self.parts) == list(other.parts) and all(self[name] == other[name] for name in self)

    __hash__ = None  # type: ignore[assignment]
