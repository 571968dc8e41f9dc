"""Loaders whose every item depends on (seed, epoch, index) alone.

So a run can be stopped anywhere and go on with equal weights, with any number of workers: the permutation comes from
(seed, epoch), the sampler yields (epoch, index), and an item draws its augmentation from (seed, epoch, index). In
evaluation the sampler neither pads nor repeats, so N processes see each picture once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from visionkit.brightness import choose_white
from visionkit.data_summary import (
    CountedSamples,
    NamedSamples,
    SplitSummary,
    fingerprint,
    warn_of_absent_classes,
    warn_of_shared_images,
)
from visionkit.errors import DataError, UsageError, VisionKitError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.preprocess import Preprocessor
from visionkit.resume import position_of
from visionkit.targets import field_of
from visionkit.types import Batch, Example, HeadTarget, Sample
from visionkit.workers import STOPPING, init_worker, shorten_sockets

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
_STAGES: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
Augment = Callable[[Sample, np.random.Generator], Sample]
"""Changes a training sample; draws all its randomness from the generator it is given. Must be picklable."""


def rng_for(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one item in one epoch: counter-based, so no state has to be kept or restored."""
    # The index goes into a high word: the low ones count the draws, where neighbours would share all but four numbers.
    key = (seed & 0xFFFFFFFF) << 32 | (epoch & 0xFFFFFFFF)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))


def collate(examples: Sequence[Example]) -> Batch:
    """Puts examples into one batch.

    Pictures of different sizes are filled up at the right and bottom, which leaves coordinates as they are. Targets
    with one shape per picture are stacked; targets that count objects stay a list of dicts.
    """
    fill = examples[0]["geometry"].fill
    return {
        "inputs": {
            name: _stack([example["inputs"][name] for example in examples], fill) for name in examples[0]["inputs"]
        },
        "target": collate_targets([example["target"] for example in examples]),
        "geometry": [example["geometry"] for example in examples],
        "id": [example["id"] for example in examples],
    }


def collate_targets(targets: Sequence[Any]) -> Any:
    """The targets of a batch: a dict of stacked tensors, a list where objects are counted, or a `HeadTarget` a head."""
    if any("heads" in target for target in targets):
        return {"heads": _collate_heads([target["heads"] for target in targets])}
    if any(field_of(key).counted for target in targets for key in target):
        return list(targets)
    keys = targets[0].keys() if targets else ()
    return {key: _stack([target[key] for target in targets], field_of(key).pad) for key in keys}


def _collate_heads(targets: Sequence[Mapping[str, Any]]) -> dict[str, HeadTarget]:
    out: dict[str, HeadTarget] = {}
    for name in sorted({name for target in targets for name in target}):
        rows = [row for row, target in enumerate(targets) if name in target]
        out[name] = {"rows": torch.tensor(rows), "target": collate_targets([targets[row][name] for row in rows])}
    return out


def _stack(tensors: list[Tensor], fill: float) -> Tensor:
    first = tensors[0].shape
    if all(t.shape == first for t in tensors):
        if tensors[0].dim() == 3 and tensors[0].stride(0) == 1:
            # Pictures lie in memory as (h, w, C); turning each over costs ten times what copying it does.
            return torch.stack([t.permute(1, 2, 0) for t in tensors]).permute(0, 3, 1, 2)
        return torch.stack(tensors)
    height, width = max(t.shape[-2] for t in tensors), max(t.shape[-1] for t in tensors)
    out = tensors[0].new_full((len(tensors), *first[:-2], height, width), fill)
    for row, tensor in zip(out, tensors, strict=True):
        row[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return out


class SampleDataset(Dataset[Example]):
    """Samples with augmentation and preprocessing; an item is asked for by (epoch, index)."""

    def __init__(
        self, samples: Sequence[Sample], preprocessor: Preprocessor, seed: int = 0, augment: Augment | None = None
    ) -> None:
        self.samples, self.preprocessor, self.seed, self.augment = samples, preprocessor, seed, augment

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int | tuple[int, int]) -> Example:
        epoch, index = (0, item) if isinstance(item, int) else item
        sample = self.samples[index]
        if self.preprocessor.spec.white is not None:
            sample = sample.map_images(self.preprocessor.source)
        if self.augment is not None:
            sample = self.augment(sample, rng_for(self.seed, epoch, index))
        return self.preprocessor(sample)


class EpochSampler(DistributedSampler[Any], SequentialSampler):
    """Yields (epoch, index) for one rank; skips what an interrupted epoch has already seen.

    It calls itself a DistributedSampler because Lightning wraps any other sampler in one that pads and repeats, and a
    SequentialSampler because Lightning's `overfit_batches` replaces any other by one that knows no epochs.

    Args:
        length: Number of samples.
        shuffle: Permute by (seed, epoch); training also drops or repeats to give every rank the same number.
        seed: Of the permutation.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(range(length), world, rank, shuffle, seed)  # type: ignore[arg-type]  # only its length counts
        self.length, self.world = length, world
        self.frozen = False
        """Every epoch is the first one again, with the same order and augmentation: `overfit_batches`."""
        self.skip = 0
        """Items of this rank that are left out at the start of the next epoch: those seen before an interruption."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        if epoch != self.epoch:
            self.skip = 0  # an epoch with nothing left to do never asks for an item
        self.epoch = epoch

    @property
    def drawn_epoch(self) -> int:
        """The epoch that order and augmentation are drawn for."""
        return 0 if self.frozen else self.epoch

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The order of one epoch over all ranks, (length,) int; rank r takes every `world`-th from the r-th on."""
        return rng.permutation(self.length)

    def _indices(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.rank, self.length, self.world)
        counter = [0, 0, 0, self.drawn_epoch + 1]  # a word that no item uses, see `rng_for`
        order = self.order(np.random.Generator(np.random.Philox(key=self.seed & 0xFFFFFFFF, counter=counter)))
        # Every rank must take the same number of steps, or the last collective waits for ever.
        total = -(-self.length // self.world) * self.world
        return np.resize(order, total)[self.rank :: self.world]

    def __iter__(self) -> Iterator[Any]:
        skip, self.skip = self.skip, 0
        for index in self._indices()[skip:]:
            yield self.drawn_epoch, int(index)

    def __len__(self) -> int:
        if self.shuffle:
            return -(-self.length // self.world)
        return len(range(self.rank, self.length, self.world))


class ResumableLoader(DataLoader[Example]):
    """A loader that can begin in the middle of an epoch."""

    def __iter__(self) -> Any:
        # Workers are born with these signals held, so none dies of one before it has learnt to leave it to its parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next pass begin at batch `batches` of epoch `epoch`; its length stays that of a whole epoch."""
        sampler: Any = self.sampler
        sampler.set_epoch(state["epoch"])
        sampler.skip = state["batches"] * (self.batch_size or 1)

    def state_dict(self) -> dict[str, int]:
        """Where the next pass begins. What is finished of a pass that runs is known by the data module."""
        sampler: Any = self.sampler
        return {"epoch": sampler.epoch, "batches": sampler.skip // (self.batch_size or 1)}


class VisionDataModule(LightningDataModule, ABC):
    """Base of every data module: a subclass lists samples, the base makes loaders of them.

    Args:
        input: What the network takes. Linked from the model by the command line; a task used from Python gives
            `task.input`.
        classes: Class names in label order. Left out on the command line, they are read from the data.
        batch_size: Pictures per step and process.
        eval_batch_size: In validation and test; `batch_size` where left out.
        workers: Processes that load pictures; 0 loads in the training process.
        seed: Of shuffling and augmentation; the run's own seed where left out.
        augment: Changes training samples, see `Augment`.
        drop_last: Leave out the last training batch where it is not full (batch norm dislikes a batch of one).
        pin_memory: Page-locked batches for faster copies to a GPU; by default where one is there.
    """

    def __init__(
        self,
        *,
        input: InputSpec | None = None,
        classes: Sequence[str] | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        workers: int = 0,
        seed: int | None = None,
        augment: Augment | None = None,
        drop_last: bool = True,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or workers < 0:
            raise UsageError(f"data: batch_size {batch_size} must be at least 1 and workers {workers} at least 0")
        self.input = input
        self.classes: tuple[str, ...] = tuple(classes or ())
        if len(set(self.classes)) != len(self.classes):
            raise UsageError("data.classes: a class name stands there twice")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.workers, self.seed, self.augment = workers, seed or 0, augment
        self.drop_last, self.pin_memory = drop_last, pin_memory
        self._samples: dict[Split, Sequence[Sample]] = {}
        self._resume: dict[str, int] | None = None
        self._reported: set[Split] = set()
        self.has_test = False  # known once a training was set up
        self.trained: Mapping[str, Any] = {}
        """`splits_made` of the training of the model that is evaluated, as far as the model says it."""
        self._apart: dict[str, str] = {}

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """Reads the class names from folder names or the label file, for a configuration that leaves them out.

        Args:
            **init_args: The arguments that the class would be built with.
        """
        return []

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """What this data says of an argument that a model shares with it, where the configuration leaves it out.

        Args:
            name: Of the argument, see `visionkit.linking`.
            **init_args: The arguments that the class would be built with.
        """
        return None

    @classmethod
    def settled(cls, name: str, value: Any, **init_args: Any) -> Any:
        """A shared argument as it was given, made what the model takes too; by default as it is.

        Args:
            name: Of the argument, see `visionkit.linking`.
            value: As it was given: a skeleton may be the name of a category of the label file.
            **init_args: The arguments that the class would be built with.
        """
        return value

    @abstractmethod
    def dataset(self, split: Split) -> Sequence[Sample]:
        """The samples of one split, in a fixed order; called once per split.

        Raises:
            DataError: Nothing there, or labels that are not among `classes`.
        """

    def samples(self, split: Split) -> Sequence[Sample]:
        """The samples of one split, kept after the first call."""
        if split not in self._samples:
            samples = self.dataset(split)
            if len(samples) == 0:
                raise DataError(f"{type(self).__name__}: the {split} split holds no pictures")
            self._samples[split] = samples
        return self._samples[split]

    def summary(self, split: Split) -> SplitSummary:
        """What one split holds, for the lines at the start of a command; readers say more than the number of images.

        Args:
            split: `train`, `val` or `test`.
        """
        samples = self.samples(split)
        if isinstance(samples, CountedSamples):
            classes, unit = samples.counts(self.classes)
            return SplitSummary(split, len(samples), classes=classes, unit=unit)
        return SplitSummary(split, len(samples))

    def files(self, split: Split) -> Sequence[str]:
        """Paths of the images of one split, to find those that are in two; none where its samples do not name them."""
        samples = self.samples(split)
        return samples.names() if isinstance(samples, NamedSamples) else ()

    def setup(self, stage: str) -> None:
        """Called by the trainer on every process; the first one reports what the data holds."""
        card = getattr(self.trainer.lightning_module, "card", {}) if self.trainer is not None else {}
        self.trained = {} if stage == "fit" else card.get("splits") or {}
        if stage == "fit":
            self._choose_white()
        if _rank_and_world()[0] == 0 and int(os.environ.get("RANK", 0)) == 0:
            new = [split for split in _STAGES.get(stage, ()) if split not in self._reported]
            self._reported.update(new)
            if new:
                self.report(new)
            if stage == "fit":
                self.has_test = self._files_of("test") is not None
        if stage in ("validate", "test"):
            self.check_trained(_STAGES[stage][0])

    @property
    def splits_made(self) -> dict[str, Any]:
        """How the images were split, for the checkpoint: by default which splits share none with training."""
        return {"apart": self._apart} if self._apart else {}

    def check_trained(self, split: Split) -> None:
        """Refuses a split whose images the model was trained on, as `trained` tells; by default nothing is known.

        Args:
            split: The one that is evaluated.

        Raises:
            UsageError: They were split off in another way than in training.
        """

    def _files_of(self, split: Split) -> Sequence[str] | None:
        """Paths of the images of a split, or None where it is not there."""
        with contextlib.suppress(VisionKitError):
            return self.files(split)
        return None

    def _choose_white(self) -> None:
        """Settles which value is white, for the data and the task that is trained on it, where nobody said."""
        task: Any = self.trainer.lightning_module if self.trainer is not None else None
        if task is None or self.input is None or self.input.white is not None:
            return
        white = choose_white([ImageSource(name) for name in self.files("train") if Path(name).is_file()])
        if white is not None:
            self.input = replace(self.input, white=white)
            task.set_input(self.input)

    def report(self, splits: Sequence[Split]) -> None:
        """Prints what some splits hold, and warns of classes without a label and of images in two splits.

        Args:
            splits: Those that are used. A training split beside them is read too, to be compared with them, unless the
                model says that this was done before it was trained; so is a test split beside the training split.
        """
        summaries = [self.summary(split) for split in splits]  # read first: an error has no header before it
        lines = [line for summary in summaries for line in summary.lines()]
        print("\n".join([f"data ({type(self).__name__}):", *lines]), flush=True)
        for summary in summaries:
            if summary.split == "train":
                warn_of_absent_classes(summary)
        files = {split: self.files(split) for split in splits}
        marks = {split: fingerprint(paths) for split, paths in files.items() if split != "train"}
        before = self.trained.get("apart") or {}
        if "train" in files and (tested := self._files_of("test")) is not None:
            files["test"], marks["test"] = tested, fingerprint(tested)
        elif any(before.get(split) != mark for split, mark in marks.items()):
            files = {"train": self._files_of("train") or (), **files}  # a set for testing alone has none
        sharing = warn_of_shared_images(files)
        self._apart = {split: mark for split, mark in marks.items() if split not in sharing}

    def sampler(self, split: Split, rank: int, world: int) -> EpochSampler:
        """Chooses the order of a split for one rank; training is shuffled."""
        return EpochSampler(len(self.samples(split)), shuffle=split == "train", seed=self.seed, rank=rank, world=world)

    def loader(self, split: Split) -> DataLoader[Example]:
        """A loader for one split. Training shuffles and augments; evaluation does neither, neither pads nor repeats."""
        if self.input is None:
            raise UsageError(f"{type(self).__name__}: no input; give input=task.input")
        training = split == "train"
        samples = self.samples(split)
        rank, world = _rank_and_world()
        if not training and len(samples) < world:
            raise DataError(
                f"{split}: {len(samples)} pictures cannot be shared by {world} processes; use fewer processes"
            )
        if self.workers:
            shorten_sockets()
        dataset = SampleDataset(samples, Preprocessor(self.input), self.seed, self.augment if training else None)
        sampler = self.sampler(split, rank, world)
        sampler.frozen = getattr(self.trainer, "overfit_batches", 0) > 0
        batch_size = self.batch_size if training else self.eval_batch_size
        loader = ResumableLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            drop_last=training and self.drop_last and len(sampler) >= batch_size,
            pin_memory=torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            persistent_workers=self.workers > 0,
            worker_init_fn=init_worker if self.workers else None,
        )
        if training and self._resume is not None:
            # Lightning makes the iterator before it sets the epoch, so both are set here.
            resume, self._resume = self._resume, None
            if resume["batches"] and (resume["batch_size"], resume["world"]) != (self.batch_size, world):
                log.warning(
                    "the checkpoint was saved within an epoch by %d process(es) of batch size %d, now it is %d of %d: "
                    "the rest of this epoch repeats some pictures and leaves some out",
                    *(resume["world"], resume["batch_size"], world, self.batch_size),
                )
            loader.load_state_dict(resume)
        return loader

    def state_dict(self) -> dict[str, int]:
        """Which batches are finished, for the checkpoint."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        position = position_of(self.trainer)
        return {
            "epoch": position.epoch,
            "batches": position.batches,
            "batch_size": self.batch_size,
            "world": self.trainer.world_size,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Makes the next training loader go on where the checkpoint was saved."""
        self._resume = dict(state_dict)

    def train_dataloader(self) -> DataLoader[Example]:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Example]:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Example]:
        return self.loader("test")


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
