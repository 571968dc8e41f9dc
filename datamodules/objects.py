"""Images with objects, whatever format they were written in: checked, cleaned, made into samples when asked for.

A reader of a format makes one `AnnotatedImage` per image; everything behind that is here and is the same for all
formats.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.image_store import FileStore, PixelCache
from datamodules.object_entries import AnnotatedImage, check_files, clean, size_text
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.masks import mask_areas
from visionkit.types import Sample, Target

log = logging.getLogger(__name__)

ObjectTarget = Literal["boxes", "masks"]
Crowds = Literal["ignore", "objects"]


class ObjectImages(Sequence[Sample]):
    """Samples of images with objects.

    Args:
        entries: Cleaned.
        target: `boxes`, or `masks` as well.
        store: The images of the entries, in their order.
        cache: Decoded images by position, or None.
    """

    def __init__(
        self, entries: Sequence[AnnotatedImage], target: ObjectTarget, store: FileStore, cache: PixelCache | None = None
    ) -> None:
        self.entries, self.target, self.store, self.cache = entries, target, store, cache

    def __len__(self) -> int:
        return len(self.entries)

    def classes_of(self) -> Sequence[np.ndarray]:
        """Classes of the objects of each image, crowds left out."""
        return [entry.labels[~entry.crowded] for entry in self.entries]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        entry = self.entries[number]
        image = self.store.source(number) if self.cache is None else self.cache.source(self.store, number, number)
        size = image.size
        if entry.size is not None and entry.size != size:
            raise DataError(
                f"{entry.place}: states {size_text(entry.size)} (height x width) and {entry.file} has {size_text(size)}"
            )
        target: dict[str, Any] = {
            "boxes": entry.boxes,
            "labels": entry.labels,
            "iscrowd": entry.crowded.astype(np.int64),
        }
        sides = entry.boxes[:, 2:] - entry.boxes[:, :2]
        own = sides[:, 0] * sides[:, 1]
        if self.target == "masks":
            target["masks"] = masks = entry.masks(size)
            own = mask_areas(masks).astype(np.float64)
        area = own if entry.area is None else np.where(np.isnan(entry.area), own, entry.area)
        target["area"] = area.astype(np.float64)  # in 32 bits one just above 32 x 32 falls on the limit
        return Sample.of(image, Target(**target, **entry.more), image.name)  # type: ignore[typeddict-item]


class RawImages(Sequence[Sample]):
    """Samples of images with objects as their label files have them; no file is opened for one.

    Args:
        entries: As they were read.
        videos: The video of each, or an empty name.
    """

    def __init__(self, entries: Sequence[AnnotatedImage], videos: Sequence[str]) -> None:
        self.entries, self.videos = entries, videos

    def sequences(self) -> Sequence[str]:
        """See `visionkit.sequences.SequencedSamples`."""
        return self.videos

    def __len__(self) -> int:
        return len(self.entries)

    def names(self) -> list[str]:
        """The path of each image."""
        return [entry.file for entry in self.entries]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        entry = self.entries[index]
        known = {key: values for key, values in entry.more.items() if not key.startswith("file_")}
        target: Any = {"boxes": entry.boxes, "labels": entry.labels, **known}
        return Sample.of(ImageSource(entry.file), target, entry.file)


class ObjectData(SplittingData):
    """Base of the data modules that read objects: a subclass lists the entries of a split.

    Args:
        target: `boxes` for detection, `masks` for instance segmentation.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples; see `datamodules.augmentation`.
        crowds: `ignore` leaves crowd regions and difficult objects out of loss and metric; `objects` takes them as
            ordinary objects, for tools such as CVAT that mark every painted mask as a crowd.
        **base: See `datamodules.splitting.SplittingData`.

    Attributes:
        root: The folder of the data.
        keeps_crowds: Training images keep their crowd regions, for a loss that must know which regions to leave out.
        notes: Where each split comes from and what was left out of it, as its reader noted it.
    """

    keeps_crowds = False
    root = Path()

    def __init__(
        self,
        *,
        target: ObjectTarget = "boxes",
        cache_mb: int = 1024,
        augment: Augmentation | None = None,
        crowds: Crowds = "ignore",
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        for key, value, kind in (("target", target, ObjectTarget), ("crowds", crowds, Crowds)):
            if value not in get_args(kind):
                allowed = get_args(kind)
                raise UsageError(f"data.{key} {value!r}: allowed are {', '.join(allowed)}{suggest(value, allowed)}")
        self.target: ObjectTarget = target
        self.crowds: Crowds = crowds
        self.notes: dict[Split, SplitNotes] = {}
        self.cache_mb = cache_mb
        self._frame_places: dict[str, tuple[str, int]] = {}  # video and frame of an image, where it is of one
        self._raw: dict[Split, list[AnnotatedImage] | None] = {}
        self._read: dict[Split, list[AnnotatedImage] | None] = {}
        self._parts: dict[Split, np.ndarray] = {}

    @abstractmethod
    def read(self, split: Split) -> list[AnnotatedImage] | None:
        """The entries of one split in a fixed order, labels checked against `classes`; None where it has none."""

    @property
    def source(self) -> str:
        """Names the data in messages: its folder, where it has one."""
        return type(self).__name__ if self.root == Path() else str(self.root)

    def check(self, split: Split, entries: list[AnnotatedImage], counts: dict[str, int]) -> list[AnnotatedImage]:
        """What a type of data does to entries as they were read, before boxes are clipped; by default nothing.

        Args:
            split: `train`, `val` or `test`.
            entries: Entries, as they were read.
            counts: Gets the number of labels that are left out or suspect, by reason.

        Raises:
            DataError: Labels that nobody could train on.
        """
        return entries

    def mixture(self, entries: Sequence[AnnotatedImage]) -> np.ndarray:
        """(n,) int groups of images that every split-off part shall have its fraction of; by default one."""
        return np.zeros(len(entries), dtype=np.int64)

    def note(self, split: Split, source: Path | str, passed_over: Mapping[str, int] | None = None) -> None:
        """Keeps where a split comes from and what its reader left out, for the summary.

        Args:
            split: `train`, `val` or `test`.
            source: A folder or a label file.
            passed_over: Number of files or labels by reason.
        """
        self.notes[split] = SplitNotes(
            str(source), {why: number for why, number in (passed_over or {}).items() if number}
        )

    def entries(self, split: Split) -> list[AnnotatedImage]:
        """The entries of one split, cleaned; training ones without crowds, which no loss trains on."""
        entries = self.labeled(split)
        if split != "train":
            return entries
        entries = [replace(entry, more=_for_training(entry.more)) for entry in entries]
        if not self.keeps_crowds:
            entries = [entry.take(~entry.crowded) for entry in entries]
        if not any(map(len, entries)):
            crowds = sum(int(entry.crowded.sum()) for entry in self.labeled(split))
            cause = f"; all of its {crowds} objects are crowds, which --data.crowds objects takes as objects" * bool(
                crowds
            )
            raise DataError(
                f"{self.source}: none of {len(entries)} training images has an object ({entries[0].place} is the "
                f"first), so there is nothing to train on{cause}; are these the right label files?"
            )
        return entries

    def summary(self, split: Split) -> SplitSummary:
        """Images, objects per class, crowds, images without objects, what was left out and where the split is from."""
        entries = self.labeled(split)
        labels = np.concatenate([entry.labels[~entry.crowded] for entry in entries])
        numbers = np.bincount(labels, minlength=len(self.classes)).tolist()
        own = self._own(split) is not None
        note = self.notes.get(split if own else "train", SplitNotes(self.source, {}))
        source = note.source if own else self.part_of(split, note.source)
        return SplitSummary(
            split,
            len(entries),
            source,
            dict(zip(self.classes, numbers, strict=False)),
            crowds=sum(int(entry.crowded.sum()) for entry in entries),
            unlabeled=sum(not len(entry) for entry in entries),
            passed_over=note.passed_over if own else {},
        )

    def files(self, split: Split) -> Sequence[str]:
        """Paths of the images of one split."""
        return [entry.file for entry in self.labeled(split)]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split; the first call checks that all are there."""
        entries = self.entries(split)
        check_files(entries, self.source)
        store = FileStore(Path(), [entry.file for entry in entries])
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_images(store, np.arange(len(entries)), channels, self.cache_mb)
        return ObjectImages(entries, self.target, store, cache)

    def annotations(self, split: Split) -> list[AnnotatedImage]:
        """The entries of one split as they were read, those that are split off included."""
        entries = self._as_read(split)
        train = self._as_read("train") if entries is None or split == "train" else None
        if train is not None:
            entries = [train[row] for row in self._part(train, split)]
        if not entries:
            raise self.missing(split, self.source)
        return entries

    def raw_samples(self, split: Split) -> Sequence[Sample]:
        entries = self.annotations(split)
        return RawImages(entries, [self.video_of(entry) for entry in entries])

    def video_of(self, entry: AnnotatedImage) -> str:
        """The video that an image is a frame of, or an empty name."""
        return self._frame_places[entry.file][0] if entry.file in self._frame_places else ""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._raw.clear()  # nothing asks for them once training begins

    def labeled(self, split: Split) -> list[AnnotatedImage]:
        """The entries of one split, those that are split off included; crowds as the label file has them."""
        entries = self._own(split)
        train = self._own("train") if entries is None or split == "train" else None
        if train is not None:
            entries = [train[row] for row in self._part(train, split)]
        if not entries:
            raise self.missing(split, self.source)
        return entries

    def splits(self) -> list[Split]:
        """The splits that the data names, and those that are split off.

        A lone label file that states which split it is of is that split alone, although training would take it.
        """
        named: dict[Split, list[str]] = {}
        for split in SPLITS:
            if (entries := self._own(split)) is not None:
                named[split] = [entry.file for entry in entries]
        others = [files for split, files in named.items() if split != "train"]
        lone = named.get("train") in others
        return [
            split
            for split in SPLITS
            if not (lone and split == "train") and (split in named or (self.fractions.get(split, 0) > 0 and not lone))
        ]

    def _own(self, split: Split) -> list[AnnotatedImage] | None:
        if split not in self._read:
            entries = self._as_read(split)
            if entries is not None:
                counts: dict[str, int] = {}
                entries = self.check(split, entries, counts)
                entries = clean(entries, f"{self.source}, {split}", counts=counts)
                note = self.notes.get(split, SplitNotes(self.source, {}))
                self.note(split, note.source, {**note.passed_over, **counts})
                entries = self._with_crowds(split, entries)
            self._read[split] = entries
        return self._read[split]

    def _as_read(self, split: Split) -> list[AnnotatedImage] | None:
        """The entries as the reader gives them; kept, since files are read once for all that asks."""
        if split not in self._raw:
            self._raw[split] = self._read[split] if split in self._read else self.read(split)
        return self._raw[split]

    def _with_crowds(self, split: Split, entries: list[AnnotatedImage]) -> list[AnnotatedImage]:
        if self.crowds == "objects":
            return [replace(entry, crowd=np.zeros(len(entry), dtype=bool)) for entry in entries]
        crowds, objects = sum(int(entry.crowded.sum()) for entry in entries), sum(map(len, entries))
        if 2 * crowds > objects:
            log.warning(
                "%s, %s: %d of %d objects are marked as crowds, which neither loss nor metric counts; where a tool "
                "such as CVAT marks painted masks so, --data.crowds objects takes them as objects",
                *(self.source, split, crowds, objects),
            )
        return entries

    def _part(self, train: list[AnnotatedImage], split: Split) -> np.ndarray:
        if not self._parts:
            absent = [name for name in self.absent(()) if self._as_read(name) is None]
            self._parts = self.split_off([entry.file for entry in train], absent, self.mixture(train))
        return self._parts.get(split, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class SplitNotes:
    """What a reader notes of a split: its folder or label file, and how many files or labels it left out by reason."""

    source: str
    passed_over: dict[str, int]


def _for_training(more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: values for key, values in more.items() if not key.startswith("file_")}
