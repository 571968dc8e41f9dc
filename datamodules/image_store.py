"""Images with their labels as a sequence of samples, decoded when asked for and kept where they are small."""

from __future__ import annotations

import mmap
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from visionkit.data import Split
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.types import Sample

_PROBES = 64


class ImageStore(Protocol):
    """Where images lie: files, an archive, an array."""

    def __len__(self) -> int: ...

    def source(self, number: int) -> ImageSource:
        """The image of that number, not decoded yet."""

    def name(self, number: int) -> str:
        """Names it in messages and predictions; reads nothing."""


Store = TypeVar("Store", bound=ImageStore)


class FileStore:
    """Images as files below one folder.

    Args:
        root: The folder.
        names: Paths relative to it; absolute ones stay as they are.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = str(root)
        # One block of bytes: a list of a million strings would be copied into every worker, reference count by count.
        self.names = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self.names)

    def source(self, number: int) -> ImageSource:
        """The file."""
        return ImageSource(self.name(number))

    def name(self, number: int) -> str:
        """Its path."""
        return os.path.join(self.root, os.fsdecode(self.names[number]))  # noqa: PTH118 (a hot path)


class ArrayStore:
    """Images that are in memory.

    Args:
        images: (N, h, w, C) uint8.
        name: Names the set in messages.
    """

    def __init__(self, images: np.ndarray, name: str) -> None:
        self.images, self.set_name = images, name
        self.images.flags.writeable = False

    def __len__(self) -> int:
        return len(self.images)

    def source(self, number: int) -> ImageSource:
        """The array."""
        return ImageSource(self.images[number], self.name(number))

    def name(self, number: int) -> str:
        """Name of the set and number of the image."""
        return f"{self.set_name}[{number}]"


class StoredImages(Sequence[Sample], Generic[Store]):
    """Samples whose images lie in a store; a subclass states what is known of each.

    Args:
        store: The images.
        rows: Indices of those that belong here, (n,) int.
        cache: Decoded images by position, or None.
    """

    def __init__(self, store: Store, rows: np.ndarray, cache: PixelCache | None = None) -> None:
        self.store, self.rows, self.cache = store, rows, cache

    @abstractmethod
    def target(self, index: int, image: ImageSource) -> Any:
        """The target of the sample at that position, whose image this is."""

    def __len__(self) -> int:
        return len(self.rows)

    def names(self) -> list[str]:
        """The path of each image."""
        return [self.store.name(int(number)) for number in self.rows]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = int(self.rows[index])
        if self.cache is None:
            image = self.store.source(number)
        else:
            image = self.cache.source(self.store, number, range(len(self))[index])
        return Sample.of(image, self.target(index, image), image.name)


class LabeledImages(StoredImages[ImageStore]):
    """Samples of a classification set.

    Args:
        store: The images.
        rows: Indices of those that belong here, (n,) int.
        labels: (n,) int64 classes, or (n, K) float32 of 0 and 1.
        cache: Decoded images by position, or None.
    """

    def __init__(
        self, store: ImageStore, rows: np.ndarray, labels: np.ndarray, cache: PixelCache | None = None
    ) -> None:
        super().__init__(store, rows, cache)
        self.labels = labels

    def counts(self, classes: Sequence[str]) -> tuple[dict[str, int], str]:
        """Images per class; of several labels per image, labels per class."""
        if self.labels.ndim > 1:
            return dict(zip(classes, self.labels.sum(axis=0).astype(int).tolist(), strict=True)), "label"
        numbers = np.bincount(self.labels, minlength=len(classes)).tolist()
        return dict(zip(classes, numbers, strict=True)), "image"

    def classes_of(self) -> Sequence[np.ndarray]:
        """The class of each image; of several labels all of them."""
        if self.labels.ndim > 1:
            return [np.flatnonzero(row) for row in self.labels]
        return list(self.labels.reshape(-1, 1))

    def target(self, index: int, image: ImageSource) -> Any:
        """Its label."""
        return {"labels": self.labels[index]}


class PixelCache:
    """Decoded images in memory that all workers of a loader share.

    An image is decoded once, whole, and served as an array afterwards. Every image of the set goes this way or
    none does, so results do not depend on what happens to be cached.

    Args:
        count: Number of images.
        slot: Bytes kept for each; a larger image is decoded again every time.
        channels: Number of channels of the decoded images.
    """

    def __init__(self, count: int, slot: int, channels: int) -> None:
        self.count, self.slot, self.channels = count, slot, channels
        self._map()

    @classmethod
    def for_images(cls, store: ImageStore, rows: np.ndarray, channels: int, megabytes: int) -> PixelCache | None:
        """A cache where all the images fit into the budget, else None; reads the headers of a few of them.

        Args:
            store: The images.
            rows: Indices of those that are meant.
            channels: Number of channels, as the network needs them.
            megabytes: Budget in MiB; 0 is no cache.
        """
        if megabytes <= 0 or isinstance(store, ArrayStore) or not len(rows):
            return None
        probes = rows[np.unique(np.linspace(0, len(rows) - 1, _PROBES).astype(int))]
        sources = [store.source(int(k)) for k in probes]
        if any(source.undecoded_values() is not None for source in sources[:: max(1, len(sources) // 4)]):
            return None  # what is kept are bytes, and which value is white is settled later
        slot = max(height * width for height, width in (source.size for source in sources)) * channels
        return cls(len(rows), slot, channels) if len(rows) * slot <= megabytes * 2**20 else None

    def _map(self) -> None:
        # Anonymous shared memory is inherited by forked workers, and takes no memory before it is written to.
        self.pixels = np.frombuffer(mmap.mmap(-1, max(1, self.count * self.slot)), dtype=np.uint8)
        self.sizes = np.frombuffer(mmap.mmap(-1, max(1, self.count * 8)), dtype=np.int32).reshape(-1, 2)

    def __getstate__(self) -> tuple[int, int, int]:
        return self.count, self.slot, self.channels

    def __setstate__(self, state: tuple[int, int, int]) -> None:
        self.count, self.slot, self.channels = state
        self._map()

    def source(self, store: ImageStore, number: int, position: int) -> ImageSource:
        """The decoded image `number` of the store, which has this position in the cache."""
        start = position * self.slot
        if self.sizes[position, 0] == 0:
            pixels = store.source(number).read(self.channels)
            if pixels.size > self.slot:
                return ImageSource(pixels, store.name(number))
            self.pixels[start : start + pixels.size] = pixels.ravel()
            self.sizes[position] = pixels.shape[:2]  # last: it states that the pixels are there
        height, width = (int(side) for side in self.sizes[position])
        kept = self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)
        kept.flags.writeable = False
        return ImageSource(kept, store.name(number))


def check_fractions(fractions: Mapping[Split, float]) -> None:
    """Refuses fractions of the training images that leave none to train.

    Args:
        fractions: Fraction of `val` and of `test`.

    Raises:
        UsageError: One below 0 or from 1 on, or both together from 1 on.
    """
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise UsageError(f"data.{name}_fraction {fraction}: allowed is 0 up to, but not, 1")
    if sum(fractions.values()) >= 1:
        raise UsageError(
            f"data: val_fraction and test_fraction together are {sum(fractions.values())}; leave some to train"
        )


def split_rows(
    labels: np.ndarray, fractions: dict[Split, float], seed: int, order: np.ndarray | None = None
) -> dict[Split, np.ndarray]:
    """Splits rows by fraction, class by class, so that every split has the same mixture.

    Args:
        labels: (n,) int classes; or (n, K), which is split whatever the classes.
        fractions: Fraction of `val` and of `test`; the rest is `train`.
        seed: Random seed of the choice.
        order: Classes in the order in which they are drawn, so that renumbering classes does not change the split.

    Returns:
        Row numbers of each split, ascending.
    """
    check_fractions(fractions)
    if labels.ndim > 1:
        labels = np.zeros(len(labels), dtype=np.int64)
        order = None
    rng = np.random.default_rng(seed)
    chosen: dict[Split, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for label in np.unique(labels) if order is None else order:
        rows = rng.permutation(np.flatnonzero(labels == label))
        for name, fraction in fractions.items():
            # Even a small class shows up in every split that is asked for, as long as it can.
            number = min(max(1, round(len(rows) * fraction)), len(rows) - 1) if fraction and len(rows) > 1 else 0
            taken, rows = rows[:number], rows[number:]
            chosen[name].append(taken)
        chosen["train"].append(rows)
    return {
        name: np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64) for name, parts in chosen.items()
    }
