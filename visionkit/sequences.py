"""Samples that follow each other in time: clips of them, and which process evaluates which sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, overload, runtime_checkable

import numpy as np

from visionkit.errors import UsageError
from visionkit.inputs import Clip, last_frame
from visionkit.types import Sample


@runtime_checkable
class SequencedSamples(Protocol):
    """A sequence of samples that states to which video or scene each belongs, without opening an image.

    The samples of one sequence lie next to each other, in order of time.
    """

    def sequences(self) -> Sequence[str]:
        """The name of its sequence for each sample; an empty name is a sample of its own."""


class ClipSamples(Sequence[Sample]):
    """Turns single frames into clips that end with them: `frames` consecutive ones of one sequence.

    The sample keeps the target, the name and the id of its last frame. Where a sequence has not begun so long ago, its
    first frame is repeated, so every frame is evaluated.

    Args:
        samples: Frames, in order of time within each sequence.
        frames: Length of a clip, at least 1.
        stride: Frames from one frame of a clip to the next.

    Raises:
        UsageError: A length or stride below 1, or samples that state no sequences.
    """

    def __init__(self, samples: Sequence[Sample], frames: int, stride: int = 1) -> None:
        if frames < 1 or stride < 1:
            raise UsageError(f"clips of {frames} frames with stride {stride}: both must be at least 1")
        if not isinstance(samples, SequencedSamples):
            raise UsageError(
                f"{type(samples).__name__}: these samples are no sequences, so no clips can be made of them"
            )
        self.samples, self.frames, self.stride = samples, frames, stride
        self._names = samples.sequences()
        self._first = _first_of_each(self._names)

    def sequences(self) -> Sequence[str]:
        """See `SequencedSamples`."""
        return self._names

    def names(self) -> Sequence[str]:
        """The path of the last image of each clip, where the samples know it without opening one."""
        names: Sequence[str] = self.samples.names() if hasattr(self.samples, "names") else ()
        return names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        numbers = [max(self._first[index], index - k * self.stride) for k in reversed(range(self.frames))]
        shown = [self.samples[number] for number in numbers]
        name = next(iter(shown[-1].inputs))
        clip = Clip([last_frame(each.inputs[name]) for each in shown])
        return replace(shown[-1], inputs={**shown[-1].inputs, name: clip})


def fractions_of(names: Sequence[str], world: int) -> list[np.ndarray]:
    """Deals sequences out to processes, whole and in order, so that each has about the same number of frames.

    Args:
        names: The name of its sequence for each sample, see `SequencedSamples`.
        world: Number of processes.

    Returns:
        For each process the indices of its samples, ascending within a sequence.
    """
    first = np.asarray(_first_of_each(names))
    starts, lengths = np.unique(first, return_counts=True)
    loads, fractions = [0] * world, [[] for _ in range(world)]  # type: ignore[var-annotated]
    # The longest first, each to the process that has the least: the usual bound of 4/3 of the best division.
    for number in sorted(range(len(starts)), key=lambda k: (-lengths[k], starts[k])):
        rank = loads.index(min(loads))
        loads[rank] += int(lengths[number])
        fractions[rank].append(np.arange(starts[number], starts[number] + lengths[number]))
    return [np.concatenate(sorted(each, key=lambda some: some[0])) if each else np.arange(0) for each in fractions]


def _first_of_each(names: Sequence[str]) -> list[int]:
    """The index of the first sample of its sequence, for each sample."""
    first: list[int] = []
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        begins = not name or index == 0 or name != names[index - 1]
        if begins and name:
            if name in seen:
                raise UsageError(
                    f"sequence {name}: its frames do not lie next to each other (samples {seen[name]}, {index})"
                )
            seen[name] = index
        first.append(index if begins else first[-1])
    return first
