"""What a data module shows of its labels before anything is repaired, for an examination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from visionkit.predictions.labels import LabelFacts
    from visionkit.types import Sample


class RawAnnotations(Protocol):
    """What a label file states about one image, before anything is repaired; see `RawLabels.annotations`."""

    @property
    def file(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def boxes(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def area(self) -> np.ndarray | None: ...
    @property
    def crowded(self) -> np.ndarray: ...
    @property
    def segments(self) -> Sequence[Any] | None: ...
    @property
    def more(self) -> dict[str, np.ndarray]: ...


class RawLabels:
    """The part of `visionkit.data.VisionDataModule` that is for examinations."""

    def raw_samples(self, split: Any) -> Sequence[Sample]:
        """The samples of one split as its label files have them: nothing is repaired or left out.

        Args:
            split: `train`, `val` or `test`.
        """
        samples: Sequence[Sample] = self.samples(split)  # type: ignore[attr-defined]
        return samples

    def annotations(self, split: Any) -> Sequence[RawAnnotations] | None:
        """What label files state about the objects of one split, in the order of `raw_samples`; by default nothing.

        Args:
            split: `train`, `val` or `test`.
        """
        return None

    def label_facts(self) -> LabelFacts:
        """What targets do not state themselves and drawings of them need: class names and the skeleton."""
        from visionkit.predictions.labels import LabelFacts

        data: Any = self
        return LabelFacts(tuple(data.classes), skeleton=getattr(data, "skeleton", None))


def warn_before_training(data: Any, splits: Sequence[Any]) -> None:
    """Warns of what the labels of a training show to be wrong, see `visionkit.checkup.before_training`."""
    from visionkit.checkup import before_training  # which imports the base of data modules

    before_training.warn_before_training(data, splits)
