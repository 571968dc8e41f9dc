"""What changes training samples: a part, or parts one after the other.

A part refines the sample's one view and its chain of photometric steps, so any number of parts costs one resampling.
Every draw comes from the generator that is handed in, so a sample depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.errors import UsageError
from visionkit.remembered import RemembersArguments
from visionkit.types import Sample

if TYPE_CHECKING:
    from visionkit.skeleton import Skeleton


class SampleAugment(ABC, metaclass=RemembersArguments):
    """A change of training samples that data modules take by short name on the command line.

    Attributes:
        mixes: Other samples are taken in, which `data.close_mosaic` ends for the last epochs.
    """

    mixes = False

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Returns the changed sample; draws from `rng` alone."""

    def with_skeleton(self, skeleton: Skeleton) -> SampleAugment:
        """The same change, knowing which keypoints exchange their names in a flipped image; by default as it is.

        Args:
            skeleton: Skeleton of the data's keypoints.
        """
        return self

    def with_samples(self, samples: Sequence[Sample]) -> SampleAugment:
        """The same change with access to the data set, for what mixes several samples; by default as it is.

        Args:
            samples: All training samples, as they are before any augmentation.
        """
        return self

    def without_mixing(self) -> SampleAugment:
        """The same change without what mixes several samples, for the last epochs; itself where nothing does."""
        return Compose([], draft=False) if self.mixes else self


Augmentation = SampleAugment | list[SampleAugment]
"""What the `augment` of a data module takes: a preset, a part, or a list of parts."""


class Compose(SampleAugment):
    """Applies parts in order. A list that is given as `augment` becomes this.

    Args:
        parts: Augmentations, applied in order.
        draft: Decode JPEG files at a reduced scale where that still exceeds the input.

    Example:
        >>> augment = Compose([RandomResizedCrop(), RandomHorizontalFlip(), ColorJitter(brightness=0.4)])
        >>> sample = augment(sample, np.random.default_rng(0))
    """

    def __init__(self, parts: list[SampleAugment], *, draft: bool = True) -> None:
        if wrong := [part for part in parts if not callable(part) or isinstance(part, type)]:
            raise UsageError(
                f"augment: {wrong[0]!r} is not an augmentation; give objects such as RandomHorizontalFlip()"
            )
        self.parts, self.draft = tuple(parts), draft
        self.mixes = any(isinstance(part, SampleAugment) and part.mixes for part in parts)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.draft:
            sample = sample.changed(draft=True)
        for part in self.parts:
            sample = part(sample, rng)
        return sample

    def with_skeleton(self, skeleton: Skeleton) -> SampleAugment:
        return self._each(lambda part: part.with_skeleton(skeleton))

    def with_samples(self, samples: Sequence[Sample]) -> SampleAugment:
        return self._each(lambda part: part.with_samples(samples))

    def without_mixing(self) -> SampleAugment:
        return self._each(lambda part: part.without_mixing()) if self.mixes else self

    def _each(self, change: Callable[[SampleAugment], SampleAugment]) -> SampleAugment:
        out = copy.copy(self)
        out.parts = tuple(change(part) if isinstance(part, SampleAugment) else part for part in self.parts)
        out.mixes = any(isinstance(part, SampleAugment) and part.mixes for part in out.parts)
        return out


def composed(augment: Any, skeleton: Skeleton | None = None) -> Any:
    """The augmentation that a data module was given: a list is composed, and parts get the flip pairs of its keypoints.

    Args:
        augment: What the data module was given.
        skeleton: Skeleton of its keypoints; None where it has none.
    """
    if isinstance(augment, (list, tuple)):
        augment = Compose(list(augment))
    return augment if skeleton is None or not isinstance(augment, SampleAugment) else augment.with_skeleton(skeleton)
