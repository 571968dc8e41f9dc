"""The base of every data module: a subclass lists samples, the base makes loaders of them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from visionkit.augmentation import Augmentation, composed
from visionkit.brightness import settle_white
from visionkit.checkup.raw_labels import RawLabels, warn_before_training
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
from visionkit.interrupted_epoch import InterruptedEpoch, go_on, position_in, seen_in, state_at
from visionkit.loading import Augment, ResumableLoader, SampleDataset, collate
from visionkit.preprocess import Preprocessor
from visionkit.remembered import RemembersArguments
from visionkit.resume import Position, position_of
from visionkit.sampling import (
    EpochSampler,
    RepeatFactorSampler,
    SequenceSampler,
    Stretch,
    check_sampling,
    check_scales,
    classes_of,
    closing_epochs,
    repeat_factors,
    usual_batch_size,
)
from visionkit.sequences import SequencedSamples, with_frames
from visionkit.types import Example, Sample
from visionkit.wording import counted
from visionkit.workers import init_worker, shorten_sockets

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
_STAGES: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class VisionDataModule(LightningDataModule, RawLabels, ABC, metaclass=RemembersArguments):
    """Base of every data module: a subclass lists samples, the base makes loaders of them.

    Args:
        input: What the network takes. Linked from the model by the command line; a task used from Python gives
            `task.input`.
        classes: Class names in label order. Left out on the command line, they are read from the data.
        batch_size: Images per step and process; 0, the default, takes 32 of up to 256 x 256 input pixels and fewer of
            larger ones, see `usual_batch_size`.
        eval_batch_size: Images per step and process in validation and test; what `batch_size` states by default.
        num_workers: Processes that load images; 0 loads in the training process.
        seed: Random seed of shuffling and augmentation; the run's own seed by default.
        augment: Changes training samples: a preset such as `ClassificationAugment`, or a list of parts.
        close_mosaic: Number of last epochs that train without the parts of `augment` that mix images, such as `Mosaic`,
            `MixUp` and `CopyPaste`; the first epoch never does.
        multi_scale: Smallest and largest multiple of the input size, such as [0.75, 1.25]: each training batch has a
            size between them, in steps of the input's `divisor`.
        repeat_threshold: Images of rare classes are repeated: those of a class that fewer than this fraction of the
            images show, the rarer the more often (Gupta et al., 2019); 0 is off.
        drop_last: Leave out the last training batch where it is not full (batch norm dislikes a batch of one).
        pin_memory: Page-locked batches for faster copies to a GPU; by default where one is there.
    """

    def __init__(
        self,
        *,
        input: InputSpec | None = None,
        classes: Sequence[str] | None = None,
        batch_size: int = 0,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int | None = None,
        augment: Augment | Augmentation | None = None,
        close_mosaic: int = 0,
        multi_scale: Sequence[float] | None = None,
        repeat_threshold: float = 0.0,
        drop_last: bool = True,
        pin_memory: bool | None = None,
    ) -> None:
        super().__init__()
        for name, number in (
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
            ("num_workers", num_workers),
        ):
            if number is not None and number < 0:
                raise UsageError(f"data.{name} {number}: must be at least 0")
        self.input = input
        self.classes: tuple[str, ...] = tuple(classes or ())
        if len(set(self.classes)) != len(self.classes):
            raise UsageError("data.classes: a class name is duplicated")
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.seed, self.augment = num_workers, seed or 0, composed(augment)
        self.close_mosaic, self.multi_scale, self.repeat_threshold = close_mosaic, multi_scale, repeat_threshold
        self.drop_last, self.pin_memory = drop_last, pin_memory
        check_sampling(close_mosaic, getattr(self.augment, "mixes", False), multi_scale, repeat_threshold)
        self._samples: dict[Split, Sequence[Sample]] = {}
        self._resume: dict[str, Any] | None = None
        self._interrupted: InterruptedEpoch | None = None
        self._reported: set[Split] = set()
        self.has_test = False  # known once a training was set up
        self.trained: Mapping[str, Any] = {}
        """`splits_made` of the training of the model that is evaluated, as far as the model states it."""
        self._apart: dict[str, str] = {}

    @property
    def batch_size(self) -> int:
        """Images per step and process."""
        return self._batch_size or usual_batch_size(self.input, training=True)

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = size

    @property
    def eval_batch_size(self) -> int:
        """Images per step and process in validation and test."""
        return self._eval_batch_size or usual_batch_size(self.input, training=False)

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """Reads the class names from folder names or the label file, for a configuration that leaves them out.

        Args:
            **init_args: The arguments that the class would be built with.
        """
        return []

    @classmethod
    def linked(cls, name: str, **init_args: Any) -> Any:
        """What this data states about an argument that a model shares with it, where the configuration leaves it out.

        Args:
            name: Name of the argument, see `visionkit.linking`.
            **init_args: The arguments that the class would be built with.
        """
        return None

    @classmethod
    def settled(cls, name: str, value: Any, **init_args: Any) -> Any:
        """A shared argument as it was given, made what the model takes too; by default as it is.

        Args:
            name: Name of the argument, see `visionkit.linking`.
            value: Value, as it was given: a skeleton may be the name of a category of the label file.
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
            if self.input is not None and len(samples):
                samples = with_frames(samples, self.input, split == "train", getattr(self.augment, "mixes", False))
            if len(samples) == 0:
                raise DataError(f"{type(self).__name__}: the {split} split holds no images")
            self._samples[split] = samples
        return self._samples[split]

    def summary(self, split: Split) -> SplitSummary:
        """What one split holds, for the lines at the start of a command; readers state more than the number of images.

        Args:
            split: `train`, `val` or `test`.
        """
        samples = self.samples(split)
        if isinstance(samples, CountedSamples):
            classes, unit = samples.counts(self.classes)
            return SplitSummary(split, len(samples), classes=classes, unit=unit)
        return SplitSummary(split, len(samples))

    def common_notes(self) -> Sequence[str]:
        """What holds for all splits and is stated once below them; asked for after the summaries."""
        return ()

    def files(self, split: Split) -> Sequence[str]:
        """Paths of the images of one split, to find those that are in two; none where its samples do not name them."""
        samples = self.samples(split)
        return samples.names() if isinstance(samples, NamedSamples) else ()

    def setup(self, stage: str) -> None:
        """Called by the trainer on every process; the first one reports what the data holds."""
        card = getattr(self.trainer.lightning_module, "card", {}) if self.trainer is not None else {}
        self.trained = {} if stage == "fit" else card.get("splits") or {}
        if stage == "fit":
            settle_white(self)
        if _rank_and_world()[0] == 0 and int(os.environ.get("RANK", 0)) == 0:
            without = {"val"} if getattr(self.trainer, "limit_val_batches", 1) == 0 else set()  # never asked for
            new = [split for split in _STAGES.get(stage, ()) if split not in self._reported | without]
            self._reported.update(new)
            if new:
                self.report(new)
            if stage == "fit":
                warn_before_training(self, new)
                self.has_test = self._files_of("test") is not None
        if stage in ("validate", "test"):
            self.check_trained(_STAGES[stage][0])

    @property
    def splits_made(self) -> dict[str, Any]:
        """How the images were split, for the checkpoint: by default which splits share none with training."""
        return {"apart": self._apart} if self._apart else {}

    def check_trained(self, split: Split) -> None:
        """Refuses a split whose images the model was trained on, as `trained` states; by default nothing is known.

        Args:
            split: The one that is evaluated.

        Raises:
            UsageError: They were split off in another way than in training.
        """

    def _repeats(self) -> list[str]:
        """What `repeat_threshold` makes of an epoch, in one line."""
        if not self.repeat_threshold:
            return []
        factors = repeat_factors(classes_of(self.samples("train")), self.repeat_threshold)
        images, more = math.ceil(factors.sum()), int((factors > 1).sum())
        return [
            f"repeat_threshold {self.repeat_threshold:g}: an epoch shows {counted(images, 'image')}, {more} of the "
            f"{len(factors)} more than once (at most {factors.max():.1f} times)"
        ]

    def _files_of(self, split: Split) -> Sequence[str] | None:
        """Paths of the images of a split, or None where it is not there."""
        with contextlib.suppress(VisionKitError):
            return self.files(split)
        return None

    def training_images(self) -> Sequence[ImageSource]:
        """The images of the training split that can be opened by themselves, to see which value is white."""
        return [ImageSource(name) for name in self.files("train") if Path(name).is_file()]

    def report(self, splits: Sequence[Split]) -> None:
        """Prints what some splits hold, and warns of classes without a label and of images in two splits.

        Args:
            splits: Those that are used. A training split beside them is read too, to be compared with them, unless the
                model states that this was done before it was trained; so is a test split beside the training split.
        """
        summaries = [self.summary(split) for split in splits]  # read first: an error has no header before it
        lines = [line for summary in summaries for line in summary.lines()]
        notes = [*self.common_notes(), *(self._repeats() if "train" in splits else ())]
        print("\n".join([f"data ({type(self).__name__}):", *lines, *map("  {}".format, notes)]), flush=True)
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
        """Chooses the order of a split for one rank; training is shuffled, and a sequence is evaluated by one rank."""
        if split != "train" and isinstance(samples := self.samples(split), SequencedSamples):
            return SequenceSampler(samples.sequences(), seed=self.seed, rank=rank, world=world)
        if split == "train" and self.repeat_threshold:
            factors = repeat_factors(classes_of(self.samples(split)), self.repeat_threshold)
            return RepeatFactorSampler(factors, seed=self.seed, rank=rank, world=world)
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
                f"{split}: {counted(len(samples), 'image')} cannot be shared by {world} processes; use fewer processes"
            )
        if self.num_workers:
            shorten_sockets()
        task: Any = self.trainer.lightning_module if self.trainer is not None else None
        views = task.evaluation_views() if not training and hasattr(task, "evaluation_views") else None
        augment = self.augment if training else None
        dataset = SampleDataset(samples, Preprocessor(self.input), self.seed, augment, views, training)
        sampler = self._training_sampler() if training else self.sampler(split, rank, world)
        if training:
            self._set_drawing(sampler, task)
        sampler.frozen = getattr(self.trainer, "overfit_batches", 0) > 0
        loader = ResumableLoader(
            dataset,
            batch_size=self.batch_size if training else self.eval_batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            drop_last=sampler.drop_last,
            pin_memory=torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=init_worker if self.num_workers else None,
        )
        if training and self._resume is not None:
            # Lightning makes the iterator before it sets the epoch, so both are set here.
            resume, self._resume = self._resume, None
            over = self._interrupted is not None and self._interrupted.over
            loader.load_state_dict({"epoch": resume["epoch"], "seen": seen_in(resume), "over": over})
        return loader

    def _training_sampler(self) -> EpochSampler:
        """The order of the training samples for this process, with what its batches leave out."""
        sampler = self.sampler("train", *_rank_and_world())
        sampler.batch_size = self.batch_size
        sampler.drop_last = self.drop_last
        if len(sampler) < self.batch_size:
            sampler.drop_last = False  # the only batch is kept, however small
        return sampler

    def _set_drawing(self, sampler: EpochSampler, task: Any) -> None:
        """Has the sampler state what differs between training items: sizes, repetitions, the last epochs."""
        if self.multi_scale is not None:
            check_scales(self.multi_scale, self.input, task)
            sampler.scales = (self.multi_scale[0], self.multi_scale[1])
        if self.repeat_threshold and not isinstance(sampler, RepeatFactorSampler):
            raise UsageError(f"data.repeat_threshold: {type(self).__name__} orders its images by itself; leave it out")
        if self.close_mosaic and self.trainer is not None:
            sampler.is_closing = closing_epochs(self.close_mosaic, self.trainer)

    def state_dict(self) -> dict[str, Any]:
        """What the epoch has seen, for the checkpoint, see `visionkit.interrupted_epoch`."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        now = Stretch(self.trainer.world_size, self.batch_size, 0)
        return state_at(position_of(self.trainer), now, self._interrupted)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next training loader go on where the checkpoint was saved."""
        self._resume, self._interrupted = dict(state_dict), None

    def go_on_from(self, position: Position) -> Position:
        """Where the epoch of the loaded state goes on, with the processes and the batch size that there are now.

        Args:
            position: Where training stood, in batches of the processes that there were.
        """
        if not self._resume:
            return position
        seen, sampler = seen_in(self._resume), self._training_sampler()
        if not sampler.any_batch_size and any(each.batch_size != sampler.batch_size for each in seen):
            log.warning("the batches of this epoch were of another size: its rest repeats some images and loses some")
        assert self.trainer is not None
        self._interrupted = go_on(sampler, position, seen, self.trainer.limit_train_batches)
        return position_in(self._interrupted, position)

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
