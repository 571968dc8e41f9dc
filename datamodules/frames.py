"""Frames of videos with objects: samples that state their sequence, and splits that take whole sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datamodules.objects import ObjectImages
from visionkit.errors import UsageError
from visionkit.types import Sample


class OfSequences(Sequence[Sample]):
    """What samples that state their sequence and position have; goes before the class that reads them.

    Attributes:
        places: Sequence and position of each sample.
    """

    places: Sequence[tuple[str, int]]

    def sequences(self) -> Sequence[str]:
        """See `visionkit.sequences.SequencedSamples`."""
        return [sequence for sequence, _ in self.places]

    def __getitem__(self, index: Any) -> Any:
        sample: Any = super().__getitem__(index)
        if isinstance(index, slice):
            return sample
        sequence, frame = self.places[range(len(self))[index]]
        return replace(sample, sequence=sequence, frame=frame)


class Frames(OfSequences, ObjectImages):
    """Frames with objects.

    Args:
        places: Sequence and position of each.
        images: The samples.
    """

    def __init__(self, places: Sequence[tuple[str, int]], images: ObjectImages) -> None:
        super().__init__(images.entries, images.target, images.store, images.cache)
        self.places = places


def check_whole(fractions: Mapping[Any, float], how: str) -> None:
    """Refuses to split frames of one sequence off.

    Args:
        fractions: Fraction of the training images that each split takes.
        how: How whole sequences are named, with `{split}` in it.

    Raises:
        UsageError: A fraction that is neither 0 nor 1.
    """
    for split, fraction in fractions.items():
        if fraction not in (0, 1):
            raise UsageError(
                f"data.{split}_fraction {fraction:g}: frames of one sequence are alike, so none are split off; "
                f"{how.format(split=split)}, or give 1 to take all"
            )
