"""Pairs of images and depth as samples: their splits, their cache, and what is suspicious about their depth."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from datamodules.class_names import shorten
from datamodules.depth_files import default_unit, read_depth, read_raw
from datamodules.image_store import FileStore, PixelCache, StoredImages
from datamodules.pairing import check_same_size, spread, warn_of_turned
from datamodules.splitting import EveryNthSplits
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.types import Sample

log = logging.getLogger(__name__)

KNOWN_UNITS: dict[str, float] = {
    "millimeters": 1000,
    "meters": 1,
    "KITTI's 1/256 m": 256,
    "TUM's 1/5000 m": 5000,
    "centimeters": 100,
}
"""Numbers that stand for a meter in the files that are about, the most common first."""

FARTHEST, NEAREST = 100.0, 0.01
"""Meters; a set whose median lies beyond is most likely read in a wrong unit."""

BEYOND_SENSORS = 12.0
"""Meters that no depth camera of rooms measures."""

_PROBES = 64


class DepthStore(Protocol):
    """Images and their depth by number."""

    def __len__(self) -> int: ...

    def source(self, number: int) -> ImageSource:
        """The image."""

    def name(self, number: int) -> str:
        """Names the image in messages and predictions; reads nothing."""

    def depth(self, number: int) -> np.ndarray:
        """Its depth, (h, w) float32 meters, 0 not measured."""

    @property
    def unit(self) -> float:
        """Numbers of the files that were taken for a meter."""


class DepthFiles(FileStore):
    """Pairs of files.

    Args:
        images: Paths.
        depths: Paths, one for each image.
        units_per_meter: See `read_depth`.
    """

    def __init__(self, images: Sequence[str], depths: Sequence[str], units_per_meter: float | None) -> None:
        super().__init__(Path(), images)
        self.depths, self.units = FileStore(Path(), depths), units_per_meter

    def depth(self, number: int) -> np.ndarray:
        """Reads the file."""
        return read_depth(self.depths.name(number), self.units)

    @property
    def unit(self) -> float:
        """What was given, or what the first file's type stands for."""
        return self.units or default_unit(read_raw(Path(self.depths.name(0))).dtype)


class DepthImages(StoredImages[DepthStore]):
    """Samples of a depth set.

    Args:
        store: Images and depth.
        rows: Indices of those that belong here, (n,) int.
        cache: Decoded images by position, or None.
        keep: Decoded depth is kept in memory.
    """

    def __init__(
        self, store: DepthStore, rows: np.ndarray, cache: PixelCache | None = None, keep: bool = False
    ) -> None:
        super().__init__(store, rows, cache)
        self.kept: dict[int, np.ndarray] | None = {} if keep else None

    def target(self, index: int, image: ImageSource) -> Any:
        """Its depth in meters."""
        return {"depth": self._depth(int(self.rows[index]), image)}

    def _depth(self, number: int, image: ImageSource) -> np.ndarray:
        if self.kept is not None and number in self.kept:
            return self.kept[number]
        depth = self.store.depth(number)
        if depth.shape != image.size:
            name = self.store.depths.name(number) if isinstance(self.store, DepthFiles) else image.name
            check_same_size(self.store.source(number), depth.shape, name, "depth map")
        if self.kept is not None:
            self.kept[number] = depth
        return depth


class Pairs(NamedTuple):
    """What a reader has found.

    Attributes:
        store: Images and depth by number.
        rows: Numbers of each split, ascending.
        source: Where they come from: a folder, a list.
        passed_over: Number of files that are left out, by reason.
    """

    store: DepthStore
    rows: dict[Split, np.ndarray]
    source: str = ""
    passed_over: Mapping[str, int] = MappingProxyType({})


class DepthData(EveryNthSplits):
    """Base of the readers of depth: a subclass finds the pairs.

    Args:
        val_every: Where the data names no validation split, each n-th training image in order is for validation; 0
            none.
        test_every: The same for testing; test images are taken first.
        cache_mb: Decoded images and depth stay in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`.
    """

    def __init__(
        self,
        *,
        val_every: int = 8,
        test_every: int = 0,
        cache_mb: int = 512,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(val_every=val_every, test_every=test_every, augment=augment, **base)
        self.cache_mb = cache_mb
        self._found: Pairs | None = None
        self._ranges: dict[Split, DepthRange] = {}

    @property
    def found(self) -> Pairs:
        """What `find` has found."""
        if self._found is None:
            self._found = self.find()
        return self._found

    @abstractmethod
    def find(self) -> Pairs:
        """The images with their depth and their splits; called once.

        Raises:
            DataError: Nothing there.
        """

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pairs of one split; some of them are read, for units and for images without any depth."""
        store, rows = self.found.store, self.found.rows.get(split, np.zeros(0, dtype=np.int64))
        if len(rows) == 0:
            raise self.missing(split, self.found.source or type(self).__name__)
        channels = self.input.channels if self.input else 3
        height, width = store.source(int(rows[0])).size
        # Depth takes four bytes per pixel beside those of the image.
        budget = self.cache_mb * channels // (channels + 4)
        cache = PixelCache.for_images(store, rows, channels, budget)
        keep = len(rows) * height * width * 4 <= (self.cache_mb - budget) * 2**20
        samples = DepthImages(store, rows, cache, keep)
        self._ranges[split] = examine_samples(samples, split)
        return samples

    def summary(self, split: Split) -> SplitSummary:
        """Number of images, the range of their depth and the unit that it was read in."""
        samples, found = self.samples(split), self.found
        seen = self._ranges[split]
        if isinstance(found.store, DepthFiles):
            store = found.store
            pairs = ((store.source(k), store.depths.name(k)) for k in spread(found.rows[split]))
            warn_of_turned(pairs, f"{found.source}, {split}", "depth")
        own = split not in self._absent
        source = found.source if own else f"each {self.every[split]}th of {found.source}, which names no {split} split"
        return SplitSummary(
            *(split, len(samples), source),
            unlabeled=len(seen.empty) if seen.read == len(samples) else 0,
            passed_over=found.passed_over if split == "train" else {},
            notes=[seen.text(found.store.unit)],
        )


def check_unit(units_per_meter: float | None) -> None:
    """Refuses a unit that cannot be.

    Raises:
        UsageError: Not above 0.
    """
    if units_per_meter is not None and not units_per_meter > 0:
        raise UsageError(f"data.units_per_meter {units_per_meter}: a number above 0, such as 1000 for millimeters")


@dataclass(frozen=True)
class DepthRange:
    """What the depth of a split is like.

    Attributes:
        read: Number of images that were read.
        quantiles: 5 %, 50 % and 95 % of the measured depth, in meters; 0 where nothing is measured.
        unmeasured: Fraction of pixels without a depth.
        empty: Names of images without any.
        assumed: The unit was not given but taken for what whole numbers mostly have.
    """

    read: int
    quantiles: tuple[float, float, float]
    unmeasured: float
    empty: Sequence[str]
    assumed: bool

    def text(self, unit: float) -> str:
        """One line for the summary.

        Args:
            unit: Numbers of the files that were taken for a meter.
        """
        low, middle, high = self.quantiles
        taken = f"{unit:g} units per meter{', the default for whole numbers' if self.assumed else ''}"
        return f"depth: {low:.3g} to {high:.3g} m, median {middle:.3g} m; {self.unmeasured:.1%} not measured; {taken}"


def examine_samples(samples: DepthImages, split: str) -> DepthRange:
    """Warns of what most likely is a wrong unit, and of images without a measured pixel.

    Args:
        samples: Samples of one split; at most 64, evenly spread, are read.
        split: For the messages.

    Raises:
        DataError: An image and its depth differ in size, or cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(samples) - 1, _PROBES).astype(int))
    known: list[np.ndarray] = []
    empty, missing = [], []
    for position in chosen:
        number = int(samples.rows[position])
        depth = samples._depth(number, samples.store.source(number))
        measured = depth[depth > 0]
        missing.append(1 - measured.size / depth.size)
        if measured.size:
            known.append(np.quantile(measured, (0.05, 0.5, 0.95)))
        else:
            empty.append(samples.store.name(number))
    looked = "" if len(chosen) == len(samples) else " processed"
    if empty:
        log.warning(
            "%s: %d of %d images%s have no measured depth: %s; they are not used for training and no metric counts "
            "them",
            *(split, len(empty), len(chosen), looked, shorten(empty, 3)),
        )
    store, low, middle, high = samples.store, 0.0, 0.0, 0.0
    assumed = isinstance(store, DepthFiles) and store.units is None and store.unit != 1
    if known:
        low, middle, high = (float(value) for value in np.median(known, axis=0))
        if middle > FARTHEST or middle < NEAREST:
            log.warning("%s: %s", split, unit_advice(middle, store.unit))
        elif assumed and high > BEYOND_SENSORS:
            log.warning(
                "%s: depths up to %.3g m with %g units per meter, which nothing was given, are more than depth cameras "
                "measure; TUM's files have 5000 and KITTI's 256: set --data.units_per_meter, %g if that is right",
                *(split, high, store.unit, store.unit),
            )
    return DepthRange(len(chosen), (low, middle, high), float(np.mean(missing)), empty, assumed)


def unit_advice(median: float, used: float) -> str:
    """What to report of a set whose median depth cannot be.

    Args:
        median: Meters, as they were read.
        used: Numbers that were taken for a meter.
    """
    numbers = median * used
    # Rooms are some meters deep, streets some ten; of several units that would do, the most common one is named.
    likely = next((name for name, unit in KNOWN_UNITS.items() if 0.3 <= numbers / unit <= 50), None)
    doubt = f"the median depth is {median:,.4g} m with {used:g} for a meter, so that is most likely wrong"
    if likely is None:
        return f"{doubt}; set --data.units_per_meter"
    unit = KNOWN_UNITS[likely]
    return f"{doubt}; {likely} would give {numbers / unit:.3g} m: set --data.units_per_meter {unit:g}"
