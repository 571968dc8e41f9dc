"""The base of every answer, and the register of their kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True, eq=False)
class Overlay:
    """What lies over a picture, for viewers that switch it on and off class by class.

    Attributes:
        classes: Names in label order.
        labels: (h, w) uint8, the class of each pixel and 255 where there is none, or None; 255 classes at most.
        boxes: (N, 4) x1, y1, x2, y2 as shares of the picture's width and height, or None.
        numbers: (N,) the class of each box.
        scores: (N,) in [0, 1].
    """

    classes: tuple[str, ...]
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    numbers: np.ndarray | None = None
    scores: np.ndarray | None = None


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

    def summary(self) -> dict[str, Any]:
        """What `to_json` gives without pixels, to be read by people or to lie beside the files that hold them."""
        return self.to_json()

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

    def overlay(self, size: tuple[int, int]) -> Overlay | None:
        """The answer as layers over the picture in another size.

        Args:
            size: Height and width.

        Returns:
            None where the kind has no such form.
        """
        return None

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
