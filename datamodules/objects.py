"""Pictures with objects, whatever format they were written in: checked, cleaned, made into samples when asked for.

A reader of a format makes one `Entry` a picture; everything behind that is here and is the same for all formats.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.pictures import FileStore, PixelCache, split_rows
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError, suggest
from visionkit.masks import MaskSet, Rle, encode_polygons, mask_areas
from visionkit.types import Sample, Target

log = logging.getLogger(__name__)

ObjectTarget = Literal["boxes", "masks"]
Segment = Rle | list[list[float]] | None
"""An outline as a file has it: run lengths, polygons x1, y1, x2, y2, ... in file pixels, or nothing."""


@dataclass(frozen=True, eq=False)
class Entry:
    """What a label file says of one picture.

    Attributes:
        file: Path of the picture.
        place: Names the entry in messages: the label file and what in it.
        boxes: (N, 4) float64, x1, y1, x2, y2 in file pixels.
        labels: (N,) int64, 0-based numbers of classes.
        size: Height and width as the label file states them, or None.
        area: (N,) float64 where the format has it: COCO's area, which decides between small and large; NaN where it is
            that of the outline or the box.
        crowd: (N,) bool: COCO's crowd regions, VOC's difficult objects, which are not counted.
        segments: N outlines, or None where the format has none.
        more: Further rows of objects by key of `visionkit.types.Target`, such as keypoints.
    """

    file: str
    place: str
    boxes: np.ndarray
    labels: np.ndarray
    size: tuple[int, int] | None = None
    area: np.ndarray | None = None
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    segments: list[Segment] | None = None
    more: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def crowded(self) -> np.ndarray:
        """(N,) bool, none where the format does not say."""
        return self.crowd if len(self.crowd) == len(self) else np.zeros(len(self), dtype=bool)

    def take(self, rows: np.ndarray) -> Entry:
        """The entry with some of its objects.

        Args:
            rows: (N,) bool.
        """
        if rows.all():
            return self
        return replace(
            self,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            area=None if self.area is None else self.area[rows],
            crowd=self.crowded[rows],
            segments=None
            if self.segments is None
            else [s for s, kept in zip(self.segments, rows, strict=True) if kept],
            more={key: values[rows] for key, values in self.more.items()},
        )

    def masks(self, size: tuple[int, int]) -> MaskSet:
        """The outlines as run lengths.

        Args:
            size: Height and width of the picture.

        Raises:
            DataError: An object without an outline, or one that is none.
        """
        rles: list[Rle] = []
        for number, segment in enumerate(self.segments or [None] * len(self)):
            if segment is None:
                raise DataError(f"{self.place}: object {number + 1} has no outline; --data.target boxes can do without")
            if isinstance(segment, list):
                rles.append(encode_polygons(segment, size))
            elif tuple(segment["size"]) != size:
                given = "x".join(map(str, segment["size"]))
                raise DataError(
                    f"{self.place}: object {number + 1} has a mask of {given} for a picture of {_text(size)}"
                )
            else:
                rles.append(segment)
        return MaskSet(size, rles)


class ObjectPictures(Sequence[Sample]):
    """Samples of pictures with objects.

    Args:
        entries: Cleaned.
        target: `boxes`, or `masks` as well.
        store: The pictures of the entries, in their order.
        cache: Decoded pictures by position, or None.
    """

    def __init__(
        self, entries: Sequence[Entry], target: ObjectTarget, store: FileStore, cache: PixelCache | None = None
    ) -> None:
        self.entries, self.target, self.store, self.cache = entries, target, store, cache

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        entry = self.entries[number]
        image = self.store.source(number) if self.cache is None else self.cache.source(self.store, number, number)
        size = image.size
        if entry.size is not None and entry.size != size:
            raise DataError(
                f"{entry.place}: says {_text(entry.size)} (height x width) and {entry.file} has {_text(size)}"
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
        target["area"] = area.astype(np.float32)
        return Sample(image, Target(**target, **entry.more), image.name)  # type: ignore[typeddict-item]


class ObjectData(VisionDataModule):
    """Base of the data modules that read objects: a subclass lists the entries of a split.

    Args:
        target: `boxes` for detection, `masks` for instance segmentation.
        val_fraction: Share of the training pictures that is split off for validation where the data names no split.
        test_fraction: The same for testing.
        split_seed: Chooses which pictures are split off; the run's seed does not.
        cache_mb: Decoded pictures are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples; see `datamodules.object_augment`.
        **base: See `VisionDataModule`.

    Attributes:
        keeps_crowds: Training pictures keep their crowd regions, for a loss that must know where not to look.
    """

    keeps_crowds = False

    def __init__(
        self,
        *,
        target: ObjectTarget = "boxes",
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        cache_mb: int = 1024,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        if target not in get_args(ObjectTarget):
            allowed = get_args(ObjectTarget)
            raise UsageError(f"data.target {target!r}: allowed are {', '.join(allowed)}{suggest(target, allowed)}")
        self.target: ObjectTarget = target
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.split_seed, self.cache_mb = split_seed, cache_mb
        self._read: dict[Split, list[Entry] | None] = {}
        self._parts: dict[Split, np.ndarray] = {}

    @abstractmethod
    def read(self, split: Split) -> list[Entry] | None:
        """The entries of one split in a fixed order, labels checked against `classes`; None where it has none."""

    @property
    def source(self) -> str:
        """Names the data in messages."""
        return type(self).__name__

    def mixture(self, entries: Sequence[Entry]) -> np.ndarray:
        """(n,) int groups of pictures that every split-off part shall have its share of; by default one."""
        return np.zeros(len(entries), dtype=np.int64)

    def entries(self, split: Split) -> list[Entry]:
        """The entries of one split, cleaned; training ones without crowds, which no loss learns from."""
        entries = self._own(split)
        train = self._own("train") if entries is None or (split == "train" and self._splits_off()) else None
        if train is not None:
            rows = self._part(train, split)
            entries = [train[row] for row in rows]
        if not entries:
            raise UsageError(
                f"{self.source}: it names no pictures for {split} and data.{split}_fraction is 0; "
                f"set e.g. --data.{split}_fraction 0.1"
            )
        if split == "train" and not self.keeps_crowds:
            entries = [entry.take(~entry.crowded) for entry in entries]
        if split == "train" and not any(map(len, entries)):
            raise DataError(
                f"{self.source}: none of {len(entries)} training pictures has an object ({entries[0].place} is the "
                "first; crowds do not count), so there is nothing to learn; are these the right label files?"
            )
        return entries

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pictures of one split; the first call checks that all are there."""
        entries = self.entries(split)
        check_files(entries, self.source)
        store = FileStore(Path(), [entry.file for entry in entries])
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_pictures(store, np.arange(len(entries)), channels, self.cache_mb)
        return ObjectPictures(entries, self.target, store, cache)

    def _own(self, split: Split) -> list[Entry] | None:
        if split not in self._read:
            entries = self.read(split)
            self._warn_of_shared(split, entries or ())
            self._read[split] = None if entries is None else clean(entries, f"{self.source}, {split}")
        return self._read[split]

    def _warn_of_shared(self, split: Split, entries: Sequence[Entry]) -> None:
        files = {entry.file for entry in entries}
        for other, known in self._read.items():
            shared = sorted(files.intersection(entry.file for entry in known or ()))
            if shared:
                log.warning(
                    "%s: %s and %s share %d pictures (%s), so they are no independent sets",
                    self.source,
                    other,
                    split,
                    len(shared),
                    _few(shared),
                )

    def _splits_off(self) -> bool:
        return any(part > 0 and self._own(split) is None for split, part in self.fractions.items())

    def _part(self, train: list[Entry], split: Split) -> np.ndarray:
        if not self._parts:
            wanted = {name: part for name, part in self.fractions.items() if self._own(name) is None}
            self._parts = split_rows(self.mixture(train), wanted, self.split_seed)
        return self._parts[split]


def clean(
    entries: Sequence[Entry], source: str, sizes: Callable[[Entry], tuple[int, int]] | None = None
) -> list[Entry]:
    """Clips boxes to their pictures and drops those without an area, with one warning that counts them.

    Args:
        entries: As they were read.
        source: Names the data in the warning.
        sizes: Where an entry does not state the size of its picture; left out, such boxes are not clipped on the right
            and at the bottom.

    Raises:
        DataError: A coordinate that is not a finite number; names the entry.
    """
    out: list[Entry] = []
    clipped: list[str] = []
    dropped: list[str] = []
    objects = sum(len(entry) for entry in entries)
    for entry in entries:
        if not np.isfinite(entry.boxes).all():
            number = int(np.flatnonzero(~np.isfinite(entry.boxes).all(axis=1))[0])
            box = ", ".join(f"{value:g}" for value in entry.boxes[number])
            raise DataError(f"{entry.place}: box {number + 1} is ({box}); coordinates are finite numbers")
        size = entry.size or (sizes(entry) if sizes is not None else None)
        height, width = size or (np.inf, np.inf)
        boxes = np.clip(entry.boxes, 0, np.array([width, height, width, height]))
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        # A hundredth of a pixel is how coordinates are rounded when they are written.
        moved = keep & (np.abs(boxes - entry.boxes) > 0.01).any(axis=1)
        clipped += [entry.place] * int(moved.sum())
        dropped += [entry.place] * int((~keep).sum())
        out.append(replace(entry, boxes=boxes).take(keep))
    told = []
    if dropped:
        told.append(f"{len(dropped)} without an area inside their picture are left out ({_few(dropped)})")
    if clipped:
        told.append(f"{len(clipped)} that reach beyond it are clipped ({_few(clipped)})")
    if told:
        log.warning("%s: of %d objects %s", source, objects, " and ".join(told))
    return out


def check_files(entries: Sequence[Entry], source: str) -> None:
    """Asks for the size of every picture file, so that a missing one is told now and not in mid-epoch.

    Raises:
        DataError: Some are missing or empty; names the first ones and who asks for them.
    """
    missing, empty = [], []
    for entry in entries:
        try:
            if os.stat(entry.file).st_size == 0:  # noqa: PTH116 (a hot path)
                empty.append(f"{entry.file} ({entry.place})")
        except OSError:
            missing.append(f"{entry.file} ({entry.place})")
    for what, listed in (("missing", missing), ("empty (0 bytes)", empty)):
        if listed:
            raise DataError(f"{source}: {len(listed)} of {len(entries)} pictures are {what}: {shorten(listed, 2)}")


def _few(places: Sequence[str]) -> str:
    return shorten(dict.fromkeys(places), 3)


def _text(size: Sequence[int]) -> str:
    return "x".join(str(side) for side in size)
