"""The order of an epoch: which sample is next, and how it is drawn, from (seed, epoch) alone.

The permutation comes from (seed, epoch), so a resumed run goes on where it was, and all ranks agree on it, also where
there are more or fewer of them than before. In evaluation a sampler neither pads nor repeats, so N processes see each
image once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import DistributedSampler, SequentialSampler

from visionkit.errors import DataError, UsageError
from visionkit.input_spec import InputSpec
from visionkit.resume import epochs_of
from visionkit.sequences import fractions_of
from visionkit.types import Sample


@runtime_checkable
class LabeledSamples(Protocol):
    """A sequence of samples that knows the classes of each without opening an image."""

    def classes_of(self) -> Sequence[np.ndarray]:
        """Classes of the objects of each sample, or its one class, in order."""


class Drawn(NamedTuple):
    """How a training item is made, where that is not as usual.

    Attributes:
        repeat: How often the sample was in this epoch before.
        scale: Factor on the input size.
        closing: It is of the last epochs, which mix no samples.
    """

    repeat: int = 0
    scale: float = 1.0
    closing: bool = False


class Stretch(NamedTuple):
    """A part of an epoch that the same processes trained on, with the same batch size.

    Attributes:
        world: Number of processes.
        batch_size: Items of a batch of one process.
        batches: How many batches each of them has finished.
    """

    world: int
    batch_size: int
    batches: int


class EpochSampler(DistributedSampler[Any], SequentialSampler):
    """Yields (epoch, index) for one rank, and `Drawn` if need be; skips what an interrupted epoch has already seen.

    All ranks together take the order of an epoch from its first item on. What they have seen at any moment is a prefix
    of it, so the rest can be dealt to any number of ranks: none of it is repeated or lost.

    It calls itself a DistributedSampler because Lightning wraps any other sampler in one that pads and repeats, and a
    SequentialSampler because Lightning's `overfit_batches` replaces any other by one that knows no epochs.

    Args:
        length: Number of samples.
        shuffle: Permute by (seed, epoch); training also drops or repeats to give every rank the same number.
        seed: Random seed of the permutation.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(range(length), world, rank, shuffle, seed)  # type: ignore[arg-type]  # only its length counts
        self.length, self.world = length, world
        self.frozen = False
        """Every epoch is the first one again, with the same order and augmentation: `overfit_batches`."""
        self.seen: Sequence[Stretch] = ()
        """What an interrupted epoch has seen already, left out of its next pass."""
        self.over = False
        """Nothing is left of the interrupted epoch, whatever `seen` leaves."""
        self.unit = 1
        """Items of the order that one rank gets together, and that no other number of ranks separates."""
        self.drop_last = False
        """Ranks leave out what they cannot share evenly; otherwise the first items of the epoch are repeated for it."""
        self.scales: tuple[float, float] | None = None
        """Smallest and largest factor on the input size, drawn for each batch and alike for all ranks."""
        self.batch_size = 1
        self.is_closing: Callable[[int], bool] = lambda epoch: False
        """Whether an epoch is one of the last ones, which mix no samples; asked once when it begins."""
        self.repeats = False
        """The order has samples more than once, each time with other draws."""

    @property
    def any_batch_size(self) -> bool:
        """Whether an interrupted epoch goes on exactly with another batch size: no item is repeated or lost by it."""
        return self.unit == 1

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        if epoch != self.epoch:
            self.seen, self.over = (), False  # an epoch with nothing left to do never asks for an item
        self.epoch = epoch

    @property
    def drawn_epoch(self) -> int:
        """The epoch that order and augmentation are drawn for."""
        return 0 if self.frozen else self.epoch

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The order of one epoch over all ranks, (length,) int; rank r takes every `world`-th unit from the r-th on."""
        return rng.permutation(self.length)

    def begun_by(self, first: Stretch) -> EpochSampler:
        """The sampler that has the order of an epoch which other processes began; by default it is the same for all."""
        return self

    def arranged(self, order: np.ndarray, left: np.ndarray, chunk: int) -> tuple[np.ndarray, int]:
        """Brings what is left of an epoch into the order in which the ranks take it; by default it is that already.

        Args:
            order: The order of the whole epoch, (length,) int.
            left: Positions in it that no rank has taken yet, (n,) int.
            chunk: Items of a batch of all ranks together.

        Returns:
            These positions, and how many of them, from the first on, may be taken.
        """
        return left, len(left)

    def _rng(self, purpose: int = 0, batch: int = 0) -> np.random.Generator:
        """A generator that all ranks share, in a word of the counter that no item uses, see `rng_for`."""
        counter = [0, purpose, batch, self.drawn_epoch + 1]
        return np.random.Generator(np.random.Philox(key=self.seed & 0xFFFFFFFF, counter=counter))

    def _per_rank(self, count: int) -> int:
        """How many of that many items each rank takes: all the same, or the last collective waits for ever."""
        units = count // self.unit
        return (units // self.world if self.drop_last or self.unit > 1 else -(-units // self.world)) * self.unit

    def batches(self, items: int | None = None) -> int:
        """Batches of one rank: of a whole epoch, or of that many items."""
        items = len(self) if items is None else items
        return items // self.batch_size if self.drop_last else -(-items // self.batch_size)

    def _left(self, seen: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
        """The order of the epoch, and the positions in it that the ranks still share."""
        order = (self.begun_by(seen[0]) if seen else self).order(self._rng())
        left = np.arange(len(order))
        for stretch in seen:
            chunk = stretch.world * stretch.batch_size
            left = self.arranged(order, left, chunk)[0][chunk * stretch.batches :]
        left, usable = self.arranged(order, left, self.world * self.batch_size)
        return order, left[:usable]

    def batches_before(self, seen: Sequence[Stretch]) -> int:
        """Number of the next batch of each rank, so that the last one is that of an epoch which was not interrupted.

        Args:
            seen: What the current epoch has seen.
        """
        left = self._per_rank(len(self._left(seen)[1]))
        return max(0, self.batches() - self.batches(left))

    def _of_rank(self, seen: Sequence[Stretch]) -> tuple[np.ndarray, np.ndarray]:
        """The order of the epoch, and the positions in it that are still this rank's."""
        order, left = self._left(seen)
        total = self._per_rank(len(left)) * self.world
        missing = np.arange(max(0, total - len(left))) % max(1, len(order))
        units = np.concatenate([left, missing])[:total].reshape(-1, self.unit)
        return order, units[self.rank :: self.world].ravel()

    def _indices(self) -> np.ndarray:
        """Indices of this rank in evaluation."""
        return np.arange(self.rank, self.length, self.world)

    @staticmethod
    def _times_before(order: np.ndarray) -> np.ndarray:
        """How often the item at each position of an order was there before."""
        by_index = np.argsort(order, kind="stable")
        starts = np.flatnonzero(np.diff(order[by_index], prepend=-1))
        counts = np.diff(np.append(starts, len(order)))
        repeats = np.empty(len(order), dtype=np.int64)
        repeats[by_index] = np.arange(len(order)) - np.repeat(starts, counts)
        return repeats

    def _scale(self, batch: int) -> float:
        assert self.scales is not None
        return float(self._rng(1, batch).uniform(*self.scales))

    def __iter__(self) -> Iterator[Any]:
        epoch, usual = self.drawn_epoch, Drawn()
        if not self.shuffle:
            yield from ((epoch, int(index)) for index in self._indices())
            return
        (seen, over), self.seen, self.over = (self.seen, self.over), (), False
        if over:
            return
        closing, first = self.is_closing(self.epoch), self.batches_before(seen) if seen else 0
        order, positions = self._of_rank(seen)
        repeats = self._times_before(order) if self.repeats else None
        scale, scaled = 1.0, -1
        for number, position in enumerate(positions, first * self.batch_size):
            if self.scales is not None and number // self.batch_size != scaled:
                scaled = number // self.batch_size
                scale = self._scale(scaled)
            drawn = Drawn(0 if repeats is None else int(repeats[position]), scale, closing)
            index = int(order[position])
            yield (epoch, index) if drawn == usual else (epoch, index, drawn)

    def __len__(self) -> int:
        return self._per_rank(self.length) if self.shuffle else len(range(self.rank, self.length, self.world))


class SequenceSampler(EpochSampler):
    """Evaluation of videos: every sequence is on one rank, in order of time, so that state can be carried along.

    Args:
        names: The name of its sequence for each sample, see `visionkit.sequences`.
        seed: See `EpochSampler`.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, names: Sequence[str], *, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(len(names), shuffle=False, seed=seed, rank=rank, world=world)
        fractions = fractions_of(names, world)
        if not all(map(len, fractions)):
            raise DataError(
                f"{sum(map(bool, map(len, fractions)))} sequences cannot be shared by {world} processes, since each is "
                "evaluated by one; use fewer processes"
            )
        self._fraction = fractions[rank]

    def _indices(self) -> np.ndarray:
        return self._fraction

    def __len__(self) -> int:
        return len(self._fraction)


class RepeatFactorSampler(EpochSampler):
    """Repeats images of rare classes (Gupta et al., 2019: LVIS).

    An image is seen as often in an epoch as its factor states, rounded up or down at random so that an epoch has the
    same length every time. A repeated image is augmented otherwise each time.

    Args:
        factors: (n,) at least 1, see `repeat_factors`.
        seed: See `EpochSampler`.
        rank: See `EpochSampler`.
        world: See `EpochSampler`.
    """

    def __init__(self, factors: np.ndarray, *, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(int(np.ceil(factors.sum())), shuffle=True, seed=seed, rank=rank, world=world)
        self.factors, self.repeats = factors, True

    def order(self, rng: np.random.Generator) -> np.ndarray:
        shuffled = rng.permutation(len(self.factors))
        ends = self.factors[shuffled].cumsum()
        ends *= self.length / ends[-1]
        ends[-1] = self.length
        # One number for all: the whole numbers between two ends are how often an image is seen.
        counts = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        return rng.permutation(np.repeat(shuffled, counts))


def repeat_factors(classes: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """How often each image is seen in an epoch: by the rarest of its classes, sqrt(threshold / fraction of images).

    Args:
        classes: Classes of each image.
        threshold: Fraction of the images below which a class is rare.

    Example:
        >>> repeat_factors([np.array([0])] * 15 + [np.array([0, 1])], 0.25)[-1]
        2.0
    """
    unique = [np.unique(each) for each in classes]
    fractions = np.bincount(np.concatenate([*unique, np.zeros(0, np.int64)])) / max(1, len(unique))
    of_class = np.sqrt(np.maximum(1.0, threshold / np.maximum(fractions, 1e-12)))
    return np.array([of_class[each].max(initial=1.0) for each in unique])


def classes_of(samples: Sequence[Sample]) -> Sequence[np.ndarray]:
    """The classes of each sample.

    Raises:
        UsageError: The samples have no classes.
    """
    if isinstance(samples, LabeledSamples):
        return samples.classes_of()
    found = []
    for sample in samples:
        if "labels" not in sample.target:
            raise UsageError("data.repeat_threshold: needs data with classes of objects or images")
        labels = np.asarray(sample.target["labels"])
        found.append(np.flatnonzero(labels) if labels.dtype.kind == "f" else labels.reshape(-1).astype(np.int64))
    return found


def closing_epochs(count: int, trainer: Any) -> Callable[[int], bool]:
    """Whether an epoch is one of the last ones of a training, which mix nothing; the first one always mixes.

    Args:
        count: Number of the last epochs, `data.close_mosaic`.
        trainer: Trainer of the data, whose length may still change.

    Raises:
        UsageError: The training has no last epoch.
    """
    if trainer.max_epochs in (None, -1) and trainer.max_steps <= 0:
        raise UsageError(
            "data.close_mosaic: a training without a number of epochs or steps has no last epochs; give "
            "trainer.max_epochs, or --max_time in place of trainer.max_time"
        )
    if count >= (epochs := epochs_of(trainer)) and trainer.is_global_zero:
        line = f"data.close_mosaic {count}: of {epochs:g} epochs only the first one mixes images"
        print(line, file=sys.stderr, flush=True)
    return lambda epoch: epoch >= max(1, epochs_of(trainer) - count)


def check_sampling(
    close_mosaic: int, mixes: bool, multi_scale: Sequence[float] | None, repeat_threshold: float
) -> None:
    """Refuses options of a data module that state nothing that could be done.

    Args:
        close_mosaic: Last epochs without mixing.
        mixes: Whether the augmentation mixes samples.
        multi_scale: Smallest and largest factor on the input size.
        repeat_threshold: Threshold of `repeat_factors`.
    """
    if close_mosaic < 0:
        raise UsageError(f"data.close_mosaic {close_mosaic}: give a number of epochs from 0 on")
    if close_mosaic and not mixes:
        raise UsageError(
            f"data.close_mosaic {close_mosaic}: augment has no part that mixes images; give it one, such as "
            "--data.augment ObjectAugment --data.augment.mosaic 1, or leave close_mosaic out"
        )
    if not 0 <= repeat_threshold <= 1:
        raise UsageError(f"data.repeat_threshold {repeat_threshold:g}: allowed is a fraction from 0 to 1")
    if multi_scale is not None and (len(multi_scale) != 2 or not 0.25 <= multi_scale[0] <= multi_scale[1] <= 4):
        raise UsageError(
            f"data.multi_scale {list(multi_scale)}: give smallest and largest multiple of the input size, from 0.25 to "
            "4, such as [0.75, 1.25]"
        )


def check_scales(multi_scale: Sequence[float], spec: InputSpec | None, task: Any) -> None:
    """Refuses other sizes of the input where there is but one.

    Args:
        multi_scale: Smallest and largest factor.
        spec: The input.
        task: What is trained, where it is known.
    """
    stated = f"data.multi_scale {list(multi_scale)}"
    if spec is not None and spec.resize_mode == "native":
        raise UsageError(f"{stated}: with input.resize_mode native images keep their own sizes; use ScaleJitter")
    if task is not None and (reason := task.one_size()):
        raise UsageError(f"{stated}: {reason}; leave it out")


def usual_batch_size(input: InputSpec | None, training: bool) -> int:
    """Images of a batch where nobody states a number: as many pixels for every input, since memory follows them.

    Args:
        input: What the network takes.
        training: Batches are trained on; in evaluation samples may have another number of reference frames.

    Returns:
        A power of 2 from 2 to 32: 32 of 256 x 256 pixels, 8 of 512 x 512, 4 of 640 x 640.
    """
    if input is None:
        return 32
    frames = input.frames + input.reference_count(training)
    fit = 32 * 256 * 256 / (input.size[0] * input.size[1] * frames)
    return int(2 ** min(5, max(1, math.floor(math.log2(fit)))))
