"""Samples that follow each other in time: clips of them, and which process evaluates which sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, overload, runtime_checkable

import numpy as np

from visionkit.errors import UsageError
from visionkit.input_spec import InputSpec
from visionkit.inputs import Clip, last_frame
from visionkit.types import Sample


@runtime_checkable
class SequencedSamples(Protocol):
    """A sequence of samples that states to which video or scene each belongs, without opening an image.

    The samples of one sequence lie next to each other, in order of time.
    """

    def sequences(self) -> Sequence[str]:
        """The name of its sequence for each sample; an empty name is a sample of its own."""


class FramesOfSequences(Sequence[Sample]):
    """Samples whose reference input has further frames of their sequence, and that end with their own.

    A sample keeps the target, the name and the id of its own frame.

    Args:
        samples: Frames, in order of time within each sequence.

    Raises:
        UsageError: The samples state no sequences.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        if not isinstance(samples, SequencedSamples):
            raise UsageError(
                f"{type(samples).__name__}: these samples are no sequences, so no clips can be made of them"
            )
        self.samples = samples
        self._names = samples.sequences()
        self._first = first_of_each(self._names)

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
        return self.clip([*self.before(index), index])

    def before(self, index: int) -> Sequence[int]:
        """Numbers of the samples whose frames go before that of a sample."""
        raise NotImplementedError

    def clip(self, numbers: Sequence[int]) -> Sample:
        """The last of some samples, with the frames of the others before its own."""
        shown = [self.samples[number] for number in numbers]
        name = next(iter(shown[-1].inputs))
        clip = Clip([last_frame(each.inputs[name]) for each in shown])
        return replace(shown[-1], inputs={**shown[-1].inputs, name: clip})


class ClipSamples(FramesOfSequences):
    """Turns single frames into clips that end with them: `frames` consecutive ones of one sequence.

    Where a sequence has not begun so long ago, its first frame is repeated, so every frame is evaluated.

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
        super().__init__(samples)
        self.frames, self.stride = frames, stride

    def before(self, index: int) -> Sequence[int]:
        return [max(self._first[index], index - k * self.stride) for k in reversed(range(1, self.frames))]


class ReferencedSamples(ClipSamples):
    """Frames with reference frames of their sequence before them: at random in training, see `drawn`.

    Args:
        samples: Frames, in order of time within each sequence.
        count: Number of reference frames.
        stride: Frames from one reference frame to the next.
        spread: Take them evenly from the whole sequence in place of those before.
    """

    def __init__(self, samples: Sequence[Sample], count: int, stride: int = 1, spread: bool = False) -> None:
        super().__init__(samples, count + 1, stride)
        self.spread = spread
        self._ends = np.append(np.flatnonzero(np.diff(self._first, append=-1)) + 1, len(self))

    def before(self, index: int) -> Sequence[int]:
        if not self.spread:
            return super().before(index)
        first, end = self._extent(index)
        count = self.frames - 1
        return [first + int((k + 0.5) * (end - first) / count) for k in range(count)]

    def drawn(self, index: int, rng: np.random.Generator) -> Sample:
        """A sample with other frames of its sequence, drawn at random; more often than once where it has too few.

        Args:
            index: Number of the sample.
            rng: Draws them.
        """
        first, end = self._extent(index)
        others = np.delete(np.arange(first, end), index - first)
        if not len(others):
            others = np.array([index])
        count = self.frames - 1
        chosen = rng.choice(others, count, replace=count > len(others))
        return self.clip([*chosen.tolist(), index])

    def _extent(self, index: int) -> tuple[int, int]:
        """The first sample of the sequence that a sample is of, and the first after it."""
        first = self._first[index]
        return first, int(self._ends[np.searchsorted(self._ends, first, side="right")])


def with_frames(samples: Sequence[Sample], spec: InputSpec, training: bool, mixes: bool) -> Sequence[Sample]:
    """Samples as a network takes them: clips, frames with reference frames, or single ones as they are.

    Args:
        samples: Samples of a data module.
        spec: What the network takes.
        training: They are trained on.
        mixes: Their augmentation mixes images.

    Raises:
        UsageError: They are no sequences, or are mixed and have reference frames.
    """
    if spec.frames > 1:
        return ClipSamples(samples, spec.frames, spec.frame_stride)
    count = spec.reference_count(training)
    if not count:
        return samples
    if training and mixes:
        raise UsageError(
            f"data.augment: mixes images, which input.reference_frames {spec.reference_frames} cannot follow; leave "
            "mosaic, mixup and copy_paste out"
        )
    return ReferencedSamples(samples, count, spec.frame_stride, spec.references == "sequence")


def fractions_of(names: Sequence[str], world: int) -> list[np.ndarray]:
    """Deals sequences out to processes, whole and in order, so that each has about the same number of frames.

    Args:
        names: The name of its sequence for each sample, see `SequencedSamples`.
        world: Number of processes.

    Returns:
        For each process the indices of its samples, ascending within a sequence.
    """
    first = np.asarray(first_of_each(names))
    starts, lengths = np.unique(first, return_counts=True)
    loads, fractions = [0] * world, [[] for _ in range(world)]  # type: ignore[var-annotated]
    # The longest first, each to the process that has the least: the usual bound of 4/3 of the best division.
    for number in sorted(range(len(starts)), key=lambda k: (-lengths[k], starts[k])):
        rank = loads.index(min(loads))
        loads[rank] += int(lengths[number])
        fractions[rank].append(np.arange(starts[number], starts[number] + lengths[number]))
    return [np.concatenate(sorted(each, key=lambda some: some[0])) if each else np.arange(0) for each in fractions]


def first_of_each(names: Sequence[str]) -> list[int]:
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
