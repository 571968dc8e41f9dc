"""Loaders whose every item depends on (seed, epoch, index) alone.

So a run can be stopped anywhere and go on with equal weights, with any number of workers: the permutation comes from
(seed, epoch), the sampler yields (epoch, index), and an item draws its augmentation from (seed, epoch, index). In
evaluation the sampler neither pads nor repeats, so N processes see each image once.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from visionkit.augmentation import SampleAugment
from visionkit.preprocess import Preprocessor
from visionkit.sampling import Drawn, Stretch
from visionkit.streams import batches
from visionkit.targets import field_of
from visionkit.tiling.plan import ViewsOf
from visionkit.types import Batch, Example, HeadTarget, Sample
from visionkit.workers import STOPPING

log = logging.getLogger(__name__)

Augment = Callable[[Sample, np.random.Generator], Sample]
"""Changes a training sample; draws all its randomness from the generator it is given. Must be picklable."""


REFERENCES = 1 << 32
"""What is drawn besides the augmentation, see `rng_for`; beyond the epochs, which samplers have in this word."""


EVALUATION_SEED = 0
"""Seed of what is drawn for images of validation and test: no run changes it, so all are measured on the same noise."""


def rng_for(seed: int, epoch: int, index: int, repeat: int = 0, purpose: int = 0) -> np.random.Generator:
    """The random generator of one item in one epoch: counter-based, so no state has to be kept or restored."""
    # The index goes into a high word: the low ones count the draws, where neighbors would share all but four numbers.
    key = (seed & 0xFFFFFFFF) << 32 | (epoch & 0xFFFFFFFF)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, repeat, index, purpose]))


def collate(examples: Sequence[Example]) -> Batch:
    """Puts examples into one batch.

    Images of different sizes are padded at the right and bottom, which leaves coordinates as they are. Targets
    with one shape per image are stacked; targets that count objects stay a list of dicts.
    """
    fill = examples[0]["geometry"].fill
    batch: Batch = {
        "inputs": {
            name: _stack([example["inputs"][name] for example in examples], fill) for name in examples[0]["inputs"]
        },
        "target": collate_targets([example["target"] for example in examples]),
        "geometry": [example["geometry"] for example in examples],
        "id": [example["id"] for example in examples],
        "sequence": [example.get("sequence", "") for example in examples],
        "frame": [example.get("frame", 0) for example in examples],
    }
    if any("views" in example for example in examples):
        batch["views"] = [example.get("views", []) for example in examples]
    return batch


def of_equal_size(examples: Sequence[Example], most: int) -> Iterator[list[int]]:
    """Numbers of the examples that share a batch in inference, at most `most` of them.

    Only equal sizes do: padded to its neighbors' size, an image's prediction would depend on them.
    """
    groups: dict[tuple[torch.Size, ...], list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(tuple(each.shape for each in example["inputs"].values()), []).append(index)
    for indices in groups.values():
        yield from batches(indices, most)


def collate_targets(targets: Sequence[Any]) -> Any:
    """Targets of a batch: a dict of stacked tensors, a list where objects are counted, or a `HeadTarget` per head."""
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


def _stack(tensors: list[Tensor], fill: float | None) -> Tensor:
    first = tensors[0].shape
    if all(t.shape == first for t in tensors):
        if tensors[0].dim() == 3 and tensors[0].stride(0) == 1:
            # Images lie in memory as (h, w, C); turning each over costs ten times what copying it does.
            return torch.stack([t.permute(1, 2, 0) for t in tensors]).permute(0, 3, 1, 2)
        return torch.stack(tensors)
    height, width = max(t.shape[-2] for t in tensors), max(t.shape[-1] for t in tensors)
    if fill is None:  # the pixel at the edge is repeated
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        lasts = [(t.shape[-2] - 1, t.shape[-1] - 1) for t in tensors]
        filled = (t[..., rows.clamp(max=y), columns.clamp(max=x)] for t, (y, x) in zip(tensors, lasts, strict=True))
        return torch.stack(list(filled))
    out = tensors[0].new_full((len(tensors), *first[:-2], height, width), fill)
    for row, tensor in zip(out, tensors, strict=True):
        row[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return out


class SampleDataset(Dataset[Example]):
    """Samples with augmentation and preprocessing; an item is asked for by (epoch, index), and `Drawn` if need be.

    Args:
        samples: The samples of a split.
        preprocessor: Brings them to the input.
        seed: Random seed of the augmentation.
        augment: Changes training samples.
        views: Further views that an evaluation runs on.
        training: Reference frames of videos are drawn at random.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessor: Preprocessor,
        seed: int = 0,
        augment: Augment | None = None,
        views: ViewsOf | None = None,
        training: bool = False,
    ) -> None:
        self.training = training
        self.samples, self.preprocessor, self.seed, self.views = samples, preprocessor, seed, views
        # Parts that mix samples draw the others by themselves, from the generator of the item.
        self.augment = augment.with_samples(_Raw(self)) if isinstance(augment, SampleAugment) else augment
        self.closing = self.augment.without_mixing() if isinstance(self.augment, SampleAugment) else augment
        self._scaled: dict[tuple[int, int], Preprocessor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def raw(self, index: int, rng: np.random.Generator | None = None) -> Sample:
        """One sample as its data module made it, before any augmentation.

        Args:
            index: Number of the sample.
            rng: Draws its reference frames, where it has some and they are drawn.
        """
        samples = self.samples
        sample = samples[index] if rng is None or not hasattr(samples, "drawn") else samples.drawn(index, rng)
        return sample if self.preprocessor.spec.white is None else sample.map_images(self.preprocessor.source)

    def at_scale(self, scale: float) -> Preprocessor:
        """The preprocessor to another input size."""
        if scale == 1:
            return self.preprocessor
        spec = self.preprocessor.spec.scaled(scale)
        if spec.size not in self._scaled:  # there are few sizes, and as many scales as batches
            self._scaled[spec.size] = Preprocessor(spec)
        return self._scaled[spec.size]

    def __getitem__(self, item: int | tuple[int, int] | tuple[int, int, Drawn]) -> Example:
        epoch, index, *how = (0, item) if isinstance(item, int) else item
        drawn = how[0] if how else Drawn()
        sample = self.raw(index, rng_for(self.seed, epoch, index, drawn.repeat, REFERENCES) if self.training else None)
        augment = self.closing if drawn.closing else self.augment
        if augment is not None:
            sample = augment(sample, rng_for(self.seed, epoch, index, drawn.repeat))
        views = self.views(sample.image.size) if self.views is not None else ()
        if not views:
            return self.at_scale(drawn.scale)(sample)
        sample = sample.map_images(self.preprocessor.decoded)  # decoded once for all views
        example = self.preprocessor(sample)
        example["views"] = [self.preprocessor(sample.changed(target={}, view=view)) for view in views]
        return example


class _Raw(Sequence[Sample]):
    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset.raw(index)


class ResumableLoader(DataLoader[Example]):
    """A loader that can begin in the middle of an epoch."""

    def __iter__(self) -> Any:
        # Workers are born with these signals held, so none dies of one before it has learned to leave it to its parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Makes the next pass take what is left of an epoch; its length stays that of a whole one.

        Args:
            state: `epoch`; `seen`, a list of `Stretch`; `over` where nothing is left whatever that states.
        """
        sampler: Any = self.sampler
        sampler.set_epoch(state["epoch"])
        sampler.seen, sampler.over = [Stretch(*each) for each in state["seen"]], bool(state.get("over"))

    def state_dict(self) -> dict[str, Any]:
        """Where the next pass begins. What is finished of a pass that runs is known by the data module."""
        sampler: Any = self.sampler
        return {"epoch": sampler.epoch, "seen": [list(each) for each in sampler.seen], "over": sampler.over}
