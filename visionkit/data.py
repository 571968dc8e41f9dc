"""Loaders whose every item depends on (seed, epoch, index) alone.

So a run can be stopped anywhere and go on with equal weights, with any number of workers: the permutation comes from
(seed, epoch), the sampler yields (epoch, index), and an item draws its augmentation from (seed, epoch, index). In evaluation
the sampler neither pads nor repeats, so N processes see each picture once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.preprocess import Preprocessor
from visionkit.types import STACKED, Batch, Example, Sample

Split = Literal["train", "val", "test"]
Augment = Callable[[Sample, np.random.Generator], Sample]
"""Changes a training sample; draws all its randomness from the generator it is given. Must be picklable."""


def rng_for(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one item in one epoch: counter-based, so no state has to be kept or restored."""
    # The index goes into a high word: the low ones count the draws, where neighbours would share all but four numbers.
    key = (seed & 0xFFFFFFFF) << 32 | (epoch & 0xFFFFFFFF)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))


def collate(examples: Sequence[Example]) -> Batch:
    """Puts examples into one batch.

    Pictures of different sizes are filled up at the right and bottom, which leaves coordinates as they are. Targets with one
    shape per picture are stacked; targets that count objects stay a list of dicts.
    """
    images = [example["image"] for example in examples]
    targets = [example["target"] for example in examples]
    target: Any = targets
    if not any("boxes" in t or "keypoints" in t or "masks" in t for t in targets):
        keys = targets[0].keys() if targets else ()
        target = {key: _stack([t[key] for t in targets], fill=255 if key == "label_map" else 0) for key in keys}
    fill = examples[0]["geometry"].fill
    return {
        "image": _stack(images, fill),
        "target": target,
        "geometry": [example["geometry"] for example in examples],
        "id": [example["id"] for example in examples],
    }


def _stack(tensors: list[Tensor], fill: float) -> Tensor:
    first = tensors[0].shape
    if all(t.shape == first for t in tensors):
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
        if self.augment is not None:
            sample = self.augment(sample, rng_for(self.seed, epoch, index))
        return self.preprocessor(sample)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) for one rank; skips what an interrupted epoch has already seen.

    Args:
        length: Number of samples.
        shuffle: Permute by (seed, epoch); training also drops or repeats to give every rank the same number.
        seed: Of the permutation.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, length: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        self.length, self.shuffle, self.seed, self.rank, self.world = length, shuffle, seed, rank, world
        self.epoch = 0
        self.skip = 0
        """Items of this rank that are left out at the start of the next epoch: those seen before an interruption."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def _indices(self) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.rank, self.length, self.world)
        counter = [0, 0, 0, self.epoch + 1]  # a word that no item uses, see `rng_for`
        order = np.random.Generator(np.random.Philox(key=self.seed & 0xFFFFFFFF, counter=counter)).permutation(self.length)
        # Every rank must take the same number of steps, or the last collective waits for ever.
        total = -(-self.length // self.world) * self.world
        return np.resize(order, total)[self.rank :: self.world]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        skip, self.skip = self.skip, 0
        for index in self._indices()[skip:]:
            yield self.epoch, int(index)

    def __len__(self) -> int:
        if self.shuffle:
            return -(-self.length // self.world)
        return len(range(self.rank, self.length, self.world))


class VisionDataModule(LightningDataModule, ABC):
    """Base of every data module: a subclass lists samples, the base makes loaders of them.

    Args:
        input: What the network takes. Linked from the model by the command line; a task used from Python gives `task.input`.
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

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """Reads the class names from folder names or the label file, for a configuration that leaves them out.

        Args:
            **init_args: The arguments that the class would be built with.
        """
        return []

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

    def loader(self, split: Split) -> DataLoader[Example]:
        """A loader for one split. Training shuffles and augments; evaluation does neither, neither pads nor repeats."""
        if self.input is None:
            raise UsageError(f"{type(self).__name__}: no input; give input=task.input")
        training = split == "train"
        samples = self.samples(split)
        rank, world = _rank_and_world()
        if not training and len(samples) < world:
            raise DataError(f"{split}: {len(samples)} pictures cannot be shared by {world} processes; use fewer processes")
        dataset = SampleDataset(samples, Preprocessor(self.input), self.seed, self.augment if training else None)
        sampler = EpochSampler(len(samples), shuffle=training, seed=self.seed, rank=rank, world=world)
        batch_size = self.batch_size if training else self.eval_batch_size
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.workers,
            collate_fn=collate,
            drop_last=training and self.drop_last and len(sampler) >= batch_size,
            pin_memory=torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            persistent_workers=self.workers > 0,
            worker_init_fn=_init_worker if self.workers else None,
        )

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


def _init_worker(worker: int) -> None:
    """One thread a worker: they are already one process a core."""
    torch.set_num_threads(1)
    try:
        import cv2

        cv2.setNumThreads(0)
    except ImportError:
        pass
