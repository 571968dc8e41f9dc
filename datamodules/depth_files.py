"""Depth as it lies in files, brought to metres with 0 for not measured; pairs of pictures and such files."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.pictures import FileStore, PixelCache, StoredPictures
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError
from visionkit.images import MAX_PIXELS, ImageSource
from visionkit.types import Sample

log = logging.getLogger(__name__)

DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")
"""Endings of files that are read as depth."""

KNOWN_UNITS: dict[str, float] = {
    "millimetres": 1000,
    "metres": 1,
    "KITTI's 1/256 m": 256,
    "TUM's 1/5000 m": 5000,
    "centimetres": 100,
}
"""Numbers that stand for a metre in the files that are about, the most common first."""

FARTHEST, NEAREST = 100.0, 0.01
"""Metres; a set whose median lies beyond is most likely read in a wrong unit."""

_PROBES = 64


def read_depth(path: str | Path, units_per_metre: float | None = None) -> np.ndarray:
    """Reads one file of depth.

    Args:
        path: A 16-bit (or 32-bit) grey png or tiff, or a `.npy` of (h, w).
        units_per_metre: What stands for a metre; by default 1000 (millimetres) for whole numbers and 1 for floats.

    Returns:
        (h, w) float32 metres; 0 is not measured, which NaN, infinity and values below 0 become too.

    Raises:
        DataError: Not there, not one grey plane, or 8-bit numbers with no unit given.
    """
    values = _values(Path(path))
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise DataError(f"{path}: depth is one number a pixel, (h, w); this is {values.shape} {values.dtype}")
    if values.dtype == np.uint8 and units_per_metre is None:
        raise DataError(
            f"{path}: 8-bit numbers, mostly a picture of depth and not depth; if it is, say what a metre is with "
            "--data.units_per_metre"
        )
    return to_metres(values, units_per_metre)


def to_metres(values: np.ndarray, units_per_metre: float | None = None) -> np.ndarray:
    """Numbers of any type to float32 metres, see `read_depth`."""
    unit = units_per_metre or default_unit(values.dtype)
    metres = np.asarray(values, dtype=np.float32) / np.float32(unit)
    if values.dtype.kind != "u":
        metres = np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))
    return metres


def default_unit(dtype: np.dtype[Any]) -> float:
    """What stands for a metre where nobody says: 1 for floats, 1000 for whole numbers."""
    return 1.0 if dtype.kind == "f" else 1000.0


def _values(path: Path) -> np.ndarray:
    return _read_npy(path) if path.suffix.lower() == ".npy" else _read_picture(path)


def _read_npy(path: Path) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as .npy ({' '.join(str(error).split())[:120]})") from None
    return values


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=("PNG", "TIFF"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # a damaged header makes Pillow's plug-ins raise nearly anything
        raise DataError(f"{path}: cannot be opened as a png or tiff of depth ({type(error).__name__})") from None
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{path}: {image.width} x {image.height} is over the limit of {MAX_PIXELS / 1e6:.0f} megapixels"
        )
    return image


def _read_picture(path: Path) -> np.ndarray:
    with _opened(path) as image:
        if image.mode in ("P", "RGB", "RGBA", "LA", "1"):
            raise DataError(f"{path}: a picture of mode {image.mode}; depth is a grey png of 16 bits")
        try:
            return np.asarray(image)
        except Exception as error:
            raise DataError(f"{path}: truncated or damaged ({type(error).__name__})") from None


class DepthStore(Protocol):
    """Pictures and their depth by number."""

    def __len__(self) -> int: ...

    def source(self, number: int) -> ImageSource:
        """The picture."""

    def name(self, number: int) -> str:
        """Names the picture in messages and predictions; reads nothing."""

    def depth(self, number: int) -> np.ndarray:
        """Its depth, (h, w) float32 metres, 0 not measured."""

    @property
    def unit(self) -> float:
        """Numbers of the files that were taken for a metre."""


class DepthFiles(FileStore):
    """Pairs of files.

    Args:
        pictures: Paths.
        depths: Paths, one for each picture.
        units_per_metre: See `read_depth`.
    """

    def __init__(self, pictures: Sequence[str], depths: Sequence[str], units_per_metre: float | None) -> None:
        super().__init__(Path(), pictures)
        self.depths, self.units = FileStore(Path(), depths), units_per_metre

    def depth(self, number: int) -> np.ndarray:
        """Reads the file."""
        return read_depth(self.depths.name(number), self.units)

    @property
    def unit(self) -> float:
        """What was given, or what the first file's type stands for."""
        return self.units or default_unit(_values(Path(self.depths.name(0))).dtype)


class DepthPictures(StoredPictures[DepthStore]):
    """Samples of a depth set.

    Args:
        store: Pictures and depth.
        rows: Which of them belong here, (n,) int.
        cache: Decoded pictures by position, or None.
        keep: Decoded depth is kept in memory.
    """

    def __init__(
        self, store: DepthStore, rows: np.ndarray, cache: PixelCache | None = None, keep: bool = False
    ) -> None:
        super().__init__(store, rows, cache)
        self.kept: dict[int, np.ndarray] | None = {} if keep else None

    def target(self, index: int, image: ImageSource) -> Any:
        """Its depth in metres."""
        return {"depth": self._depth(int(self.rows[index]), image)}

    def _depth(self, number: int, image: ImageSource) -> np.ndarray:
        if self.kept is not None and number in self.kept:
            return self.kept[number]
        depth = self.store.depth(number)
        if depth.shape != image.size:
            raise DataError(
                f"{image.name}: the picture has {image.size[0]} x {image.size[1]} pixels (height x width) and its "
                f"depth {depth.shape[0]} x {depth.shape[1]}; they must be of one size"
            )
        if self.kept is not None:
            self.kept[number] = depth
        return depth


class Pairs(NamedTuple):
    """What a reader has found.

    Attributes:
        store: Pictures and depth by number.
        rows: Numbers of each split, ascending.
    """

    store: DepthStore
    rows: dict[Split, np.ndarray]


class DepthData(VisionDataModule):
    """Base of the readers of depth: a subclass finds the pairs.

    Args:
        cache_mb: Decoded pictures and depth stay in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `VisionDataModule`.
    """

    def __init__(self, *, cache_mb: int = 512, augment: SampleAugment | None = None, **base: Any) -> None:
        super().__init__(augment=augment, **base)
        self.cache_mb = cache_mb
        self._found: Pairs | None = None

    @abstractmethod
    def find(self) -> Pairs:
        """The pictures with their depth and their splits; called once.

        Raises:
            DataError: Nothing there.
        """

    def advice(self, split: Split) -> str:
        """What to do where a split is empty."""
        return f"{type(self).__name__}: the {split} split holds no pictures"

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pairs of one split; some of them are looked at, for units and for pictures without any depth."""
        if self._found is None:
            self._found = self.find()
        store, rows = self._found.store, self._found.rows.get(split, np.zeros(0, dtype=np.int64))
        if len(rows) == 0:
            raise UsageError(self.advice(split))
        channels = self.input.channels if self.input else 3
        height, width = store.source(int(rows[0])).size
        # Depth takes four bytes a pixel beside those of the picture.
        budget = self.cache_mb * channels // (channels + 4)
        cache = PixelCache.for_pictures(store, rows, channels, budget)
        keep = len(rows) * height * width * 4 <= (self.cache_mb - budget) * 2**20
        samples = DepthPictures(store, rows, cache, keep)
        look_at(samples, split)
        return samples


def check_unit(units_per_metre: float | None) -> None:
    """Refuses a unit that cannot be.

    Raises:
        UsageError: Not above 0.
    """
    if units_per_metre is not None and not units_per_metre > 0:
        raise UsageError(f"data.units_per_metre {units_per_metre}: a number above 0, such as 1000 for millimetres")


def check_every(every: dict[Split, int]) -> None:
    """Refuses what cannot be held out.

    Raises:
        UsageError: Every picture, or a number below 0.
    """
    for split, number in every.items():
        if number < 0 or number == 1:
            raise UsageError(f"data.{split}_every {number}: 0 for none, or 2 and more")


def held_out(splits: np.ndarray, every: dict[Split, int]) -> dict[Split, np.ndarray]:
    """Rows of each split; where one has none, each n-th training row in order is taken for it.

    Args:
        splits: (n,) str.
        every: n by split, 0 for none; splits are served in its order.
    """
    names: tuple[Split, ...] = ("train", "val", "test")
    rows: dict[Split, np.ndarray] = {name: np.flatnonzero(splits == name) for name in names}
    for split, number in every.items():
        if number and len(rows[split]) == 0:
            chosen = np.arange(len(rows["train"])) % number == number - 1
            rows[split], rows["train"] = rows["train"][chosen], rows["train"][~chosen]
    return rows


def look_at(samples: DepthPictures, split: str) -> None:
    """Warns of what most likely is a wrong unit, and of pictures without a measured pixel.

    Args:
        samples: Of one split; at most 64, evenly spread, are read.
        split: For the messages.

    Raises:
        DataError: A picture and its depth differ in size, or cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(samples) - 1, _PROBES).astype(int))
    medians, empty = [], []
    for position in chosen:
        number = int(samples.rows[position])
        depth = samples._depth(number, samples.store.source(number))
        known = depth[depth > 0]
        if len(known):
            medians.append(float(np.median(known)))
        else:
            empty.append(samples.store.name(number))
    looked = "" if len(chosen) == len(samples) else " looked at"
    if empty:
        log.warning(
            "%s: %d of %d pictures%s have no measured depth: %s; nothing is learnt from them and no metric counts them",
            *(split, len(empty), len(chosen), looked, shorten(empty, 3)),
        )
    if medians:
        median = float(np.median(medians))
        if median > FARTHEST or median < NEAREST:
            log.warning("%s: %s", split, unit_advice(median, samples.store.unit))


def unit_advice(median: float, used: float) -> str:
    """What to say of a set whose median depth cannot be.

    Args:
        median: Metres, as they were read.
        used: Numbers that were taken for a metre.
    """
    numbers = median * used
    # Rooms are some metres deep, streets some ten; of several units that would do, the most common one is named.
    likely = next((name for name, unit in KNOWN_UNITS.items() if 0.3 <= numbers / unit <= 50), None)
    said = f"the median depth is {median:,.4g} m with {used:g} for a metre, so that is most likely wrong"
    if likely is None:
        return f"{said}; set --data.units_per_metre"
    unit = KNOWN_UNITS[likely]
    return f"{said}; {likely} would give {numbers / unit:.3g} m: set --data.units_per_metre {unit:g}"
