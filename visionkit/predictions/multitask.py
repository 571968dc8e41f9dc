"""The predictions of several heads on one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.labels import LabelFacts, labels_of

if TYPE_CHECKING:
    import numpy as np

    from visionkit.images import ImageLike


@dataclass(frozen=True, eq=False)
class MultiTaskPrediction(Prediction, Mapping[str, Prediction]):
    """What each head of one network states about an image: a mapping from the head's name to its prediction.

        >>> predictions = load("joint.ckpt")("photo.jpg")
        >>> predictions["objects"].above()

    Attributes:
        parts: The prediction of each head, in the order of the heads.
    """

    kind: ClassVar[str] = "multitask"
    label_keys: ClassVar[tuple[str, ...]] = ("heads",)
    label_rank: ClassVar[int] = 9

    parts: Mapping[str, Prediction]

    def __post_init__(self) -> None:
        for name, part in self.parts.items():
            if not isinstance(part, Prediction) or isinstance(part, MultiTaskPrediction):
                raise ValueError(f"the prediction of {name} is no prediction of one head: {type(part).__name__}")
        object.__setattr__(self, "parts", dict(self.parts))

    def __getitem__(self, name: str) -> Prediction:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def text(self, top: int = 3) -> str:
        return "; ".join(f"{name}: {part.text(top)}" for name, part in self.items())

    def nothing(self) -> str:
        empty = {name: part.nothing() for name, part in self.items()}
        return "; ".join(f"{name}: {words}" for name, words in empty.items() if words)

    def difference(self, other: Prediction) -> Difference | None:
        """That of the head that differs most; they mean the same where all heads do."""
        assert isinstance(other, MultiTaskPrediction)
        found = [part.difference(other[name]) for name, part in self.items()]
        known = [each for each in found if each is not None]
        return Difference(max(each.largest for each in known), all(each.same for each in known)) if known else None

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.multitask import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """The files of every head, its name put behind the image's: `street-depth.png`."""
        for name, part in self.items():
            yield from part.files(stem.with_name(f"{stem.name}-{name}"))

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> MultiTaskPrediction | None:
        found = {name: labels_of(each, facts.heads.get(name, facts)) for name, each in target["heads"].items()}
        known = {name: part for name, part in found.items() if part is not None}
        return cls(known) if known else None

    def class_names(self) -> list[str]:
        return list(dict.fromkeys(name for part in self.parts.values() for name in part.class_names()))

    def truth(self, target: Mapping[str, Any]) -> MultiTaskPrediction | None:
        """The right prediction of every head whose label is known."""
        known = target.get("heads", {})
        found = {name: part.truth(known[name]) for name, part in self.parts.items() if name in known}
        labeled = {name: part for name, part in found.items() if part is not None}
        return MultiTaskPrediction(labeled) if labeled else None

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        """The columns of every head, under its name."""
        known = truth.parts if isinstance(truth, MultiTaskPrediction) else {}
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
    def _from_json(cls, record: Mapping[str, Any]) -> MultiTaskPrediction:
        return cls({name: Prediction.from_json(each) for name, each in record["heads"].items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MultiTaskPrediction):
            return NotImplemented
        return list(self.parts) == list(other.parts) and all(self[name] == other[name] for name in self)

    __hash__ = None  # type: ignore[assignment]
