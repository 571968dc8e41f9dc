"""The labels of an image in the form of a prediction, where no model has made one: what draws a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.predictions.base import Prediction

if TYPE_CHECKING:
    from visionkit.skeleton import Skeleton


@dataclass(frozen=True)
class LabelFacts:
    """What the target of an image does not state itself.

    Attributes:
        classes: Class names in label order; may be empty.
        size: Height and width of the image in the pixels that the target is in.
        skeleton: Skeleton of the keypoints; None where there are none.
        heads: The same of each head, by its name, where the target has several.
    """

    classes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    skeleton: Skeleton | None = None
    heads: Mapping[str, LabelFacts] = field(default_factory=dict)

    def of_size(self, size: tuple[int, int]) -> LabelFacts:
        """The same of an image of another height and width."""
        return replace(self, size=size, heads={name: each.of_size(size) for name, each in self.heads.items()})


def labels_of(target: Mapping[str, Any], facts: LabelFacts) -> Prediction | None:
    """The labels of an image in the form of a prediction; of several types that fit, the one of the highest rank.

    Args:
        target: See `visionkit.types.Target`.
        facts: What it does not state.

    Returns:
        None where the image has no labels, or no type of prediction has their form.

    Raises:
        ValueError: The labels contradict each other.
    """
    kinds = [kind for kind in Prediction.kinds() if any(key in target for key in kind.label_keys)]
    for kind in sorted(kinds, key=lambda each: -each.label_rank):
        if (found := kind.from_labels(target, facts)) is not None:
            return found
    return None


def extended(classes: Sequence[str], labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names with one for every label, also for labels that the data set has no name for.

    Args:
        classes: Names that are known.
        labels: (N,) int64; may hold numbers that are negative or beyond `classes`.

    Returns:
        The names, and the labels as numbers into them.
    """
    names, out = list(classes), labels.copy()
    for label in np.unique(labels[(labels < 0) | (labels >= len(classes))]):
        out[labels == label] = len(names)
        names.append(f"class {label}" if label >= 0 else "unknown class")
    return tuple(names), out
