"""Shards: samples of any task in tar archives with an index, on this machine or in an object store."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.shard_format import SHARDS, Names, unpack
from datamodules.shard_store import Files, Parts, is_address
from datamodules.shard_writer import VERSION
from visionkit.augmentation import Augmentation, composed
from visionkit.crops import PersonCrop
from visionkit.data import Split, VisionDataModule
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, MissingSplit, UsageError
from visionkit.images import ImageSource
from visionkit.plain_values import plain
from visionkit.skeleton import Skeleton
from visionkit.types import Sample
from visionkit.wording import counted


class ShardData(VisionDataModule):
    """Samples that `visionkit convert --to shards` has written, of any task.

    Every sample is read by its number, so the order of training depends on (seed, epoch, index) as it does with
    folders, and a run goes on anywhere with equal weights.

    Args:
        root: Folder of the shards, or an address that fsspec knows: `s3://bucket/photos`, `gs://`, `https://`.
        cache: Folder of this machine in which samples from an address or a network's disk are kept; none by default.
        cache_gb: GiB that may be kept there for each split.
        skeleton: That of the keypoints; what the shards state.
        crop: How people were cut out when the shards were written; a model must take the same.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` are those that the shards state, in their order.

    Example:
        >>> data = ShardData("photos-shards", input=InputSpec(size=(64, 64)))
        >>> len(data.samples("train"))
    """

    def __init__(
        self,
        root: str,
        *,
        cache: str | None = None,
        cache_gb: float = 50.0,
        skeleton: str | dict[str, Any] | None = None,
        crop: PersonCrop | None = None,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        self.root, self.facts = root, facts_of(root)
        stated = skeleton if skeleton is not None else self.facts.get("skeleton")
        self.skeleton = None if stated is None else Skeleton.of(stated)
        super().__init__(augment=augment if self.skeleton is None else composed(augment, self.skeleton), **base)
        known = tuple(self.facts["classes"])
        if known and self.classes and self.classes != known:
            raise UsageError(
                f"data.classes {list(self.classes)}: the shards of {root} number their labels in the order "
                f"{list(known)}; write them again from data with these classes"
            )
        self.classes = self.classes or known
        self.crop = crop
        if plain(crop) != self.facts.get("crop"):
            raise UsageError(
                f"data.crop {plain(crop)}: the samples of {root} were cut out by {self.facts.get('crop')}; write them "
                "again for this model"
            )
        if cache_gb < 0:
            raise UsageError(f"data.cache_gb {cache_gb:g}: at least 0")
        self.cache = None if cache is None else Path(cache)
        self.bound = int(cache_gb * 2**30)

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """What the shards state."""
        return list(facts_of(root)["classes"])

    @classmethod
    def linked(cls, name: str, root: str = "", **init_args: Any) -> Any:
        """What the shards state about it."""
        return facts_of(root).get(name)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The samples of one split, in the order in which they were written."""
        facts = self.facts["splits"].get(split)
        if facts is None:
            raise MissingSplit(f"{self.root}: its shards hold no {split} split, only {', '.join(self.facts['splits'])}")
        files = Files(self.root)
        return ShardSamples(files, split, facts, Parts(files, split, _entries(files, split), self.cache, self.bound))

    def training_images(self) -> Sequence[ImageSource]:
        """The images of training, which are no files of their own."""
        return _Images(self.samples("train"))

    def summary(self, split: Split) -> SplitSummary:
        """Samples, labels, and the number and size of the shards."""
        facts = self.facts["splits"].get(split) or {}
        shards, size = counted(facts.get("shards", 0), "shard"), facts.get("bytes", 0) / 2**20
        counts = facts.get("counts")
        unit = facts.get("unit", "object")
        return SplitSummary(
            split, len(self.samples(split)), f"{shards} of {self.root}, {size:,.1f} MiB", classes=counts, unit=unit
        )


class _Images(Sequence[ImageSource]):
    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index].image


class ShardSamples(Sequence[Sample]):
    """The samples of one split; which protocols they have depends on what was known when they were written.

    Args:
        files: The folder.
        split: Name of the split.
        facts: What the description states of it.
        parts: Their bytes.
    """

    def __init__(self, files: Files, split: str, facts: dict[str, Any], parts: Parts) -> None:
        self.files, self.parts, self._names = files, parts, Names.of(split)
        if facts.get("sequences"):
            self.sequences = functools.partial(_lines, files, self._names.sequences)
        if "counts" in facts:
            self.counts = functools.partial(_counted, facts)
        if facts.get("labeled"):
            self.classes_of = functools.partial(_classes_of, files, self._names.classes)

    def __len__(self) -> int:
        return len(self.parts.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return unpack(self.parts.read(range(len(self))[index]))

    def names(self) -> list[str]:
        """The identifier of each sample."""
        return _lines(self.files, self._names.ids)


def facts_of(root: str) -> dict[str, Any]:
    """The description of a folder of shards.

    Raises:
        DataError: There is none, or one that this version does not read.
        EnvironmentFault: It cannot be reached.
    """
    if not root:
        raise DataError("no shards: give --data.root")
    try:
        facts = json.loads(Files(root).read(SHARDS))
        version, _, _ = facts["version"], facts["classes"], facts["splits"]
    except DataError as error:
        raise DataError(f"{error}; `visionkit convert DATA --to shards --out DIR` writes shards") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{root}/{SHARDS}: not the description of shards") from None
    if version != VERSION:
        raise DataError(f"{root}/{SHARDS}: shards of version {version}; this visionkit reads {VERSION}")
    return dict(facts)


def _entries(files: Files, split: str) -> np.ndarray:
    name = Names.of(split).entries
    if is_address(files.root):
        return np.asarray(np.load(io.BytesIO(files.read(name)), allow_pickle=False))
    return np.asarray(np.load(files.path(name), mmap_mode="r", allow_pickle=False))


def _lines(files: Files, name: str) -> list[str]:
    return files.read(name).decode("utf-8", "surrogateescape").split("\n")[:-1]


def _counted(facts: dict[str, Any], classes: Sequence[str]) -> tuple[dict[str, int], str]:
    return dict(facts["counts"]), facts["unit"]


def _classes_of(files: Files, name: str) -> list[np.ndarray]:
    with np.load(io.BytesIO(files.read(name)), allow_pickle=False) as file:
        return np.split(file["classes"].astype(np.int64), np.cumsum(file["numbers"])[:-1])
