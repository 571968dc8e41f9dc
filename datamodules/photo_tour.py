"""The patches of Brown, Hua and Winder (Discriminative Learning of Local Image Descriptors, 2011), "PhotoTour".

A set (liberty, notredame, yosemite) is a folder with `patches0000.bmp` and so on, each 16 x 16 patches of 64 x 64 gray
pixels, `info.txt` with the number of the 3-D point of each patch, and `m50_100000_100000_0.txt` with pairs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.patch_pairs import pair_sample
from datamodules.patches import turned
from datamodules.splits import SPLITS
from datamodules.splitting import SplittingData
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.text_files import read_lines, read_text
from visionkit.types import Sample

SIDE, ROW = 64, 16
"""Pixels of a patch, and patches of a row of a mosaic."""

_PER_MOSAIC = ROW * ROW


class PhotoTourData(SplittingData):
    """Patches of Brown et al. (2011): pairs of one 3-D point are matches.

    Pairs for training are drawn in each epoch, half of them matches. Validation and test read the set's list of pairs
    where they have a folder of their own; otherwise 3-D points are split off, and their pairs are drawn once.

    Args:
        root: Folder of the set to train on.
        val_root: Folder of the set for validation; by default, `val_fraction` of the points of `root`.
        test_root: Folder of the set for testing; by default, `test_fraction` of the points of `root`.
        pairs: Name of the list of pairs in `val_root` and `test_root`.
        pairs_per_epoch: Pairs of an epoch of training.
        eval_count: Pairs of validation and test that are drawn, where these have no list.
        flips: Flip and rotate both patches of a training pair alike, by quarters, as in Zagoruyko and Komodakis (2015).
        **base: See `SplittingData`. `val_fraction` is .05 by default.
    """

    def __init__(
        self,
        root: str = "",
        *,
        val_root: str | None = None,
        test_root: str | None = None,
        pairs: str = "m50_100000_100000_0.txt",
        pairs_per_epoch: int = 100_000,
        eval_count: int = 10_000,
        flips: bool = True,
        val_fraction: float = 0.05,
        **base: Any,
    ) -> None:
        super().__init__(val_fraction=val_fraction, **base)
        if min(pairs_per_epoch, eval_count) < 1:
            raise UsageError(f"data: pairs_per_epoch {pairs_per_epoch} and eval_count {eval_count} must be at least 1")
        self.roots: dict[Split, str | None] = {"train": root or None, "val": val_root, "test": test_root}
        self.pairs, self.pairs_per_epoch, self.eval_count, self.flips = pairs, pairs_per_epoch, eval_count, flips
        self._sets: dict[str, PhotoTour] = {}

    def dataset(self, split: Split) -> Sequence[Sample]:
        """Pairs of the list, or drawn ones."""
        absent = self.absent([each for each in SPLITS if self.roots[each] is not None])
        root = self.roots["train" if split in absent else split]
        if root is None and split == "train":
            raise UsageError("data: there are no patches to train on; give the folder of a set with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        patches = self._sets.setdefault(root, PhotoTour.read(Path(root)))
        if split not in ("train", *absent):
            return ListedPairs(patches, read_pairs(Path(root) / self.pairs, len(patches.points)))
        names = [f"{root} point {point}" for point in np.unique(patches.points)]
        chosen = self.split_off(names, absent)[split]
        if not len(chosen):
            raise self.missing(split, root)
        count = self.pairs_per_epoch if split == "train" else self.eval_count
        return DrawnPairs(patches, chosen, count, self.seed, self.flips and split == "train")

    def summary(self, split: Split) -> SplitSummary:
        samples = self.samples(split)
        root = self.roots[split]
        drawn = isinstance(samples, DrawnPairs)
        source = str(root) if root is not None else self.part_of(split, self.roots["train"])
        note = f"pairs drawn of {len(samples.groups)} points" if drawn else f"pairs of {self.pairs}"  # type: ignore[attr-defined]
        return SplitSummary(split, len(samples), source, notes=[note])


@dataclass(frozen=True)
class PhotoTour:
    """The patches of one set.

    Attributes:
        root: The folder.
        mosaics: Its mosaics in order.
        points: (N,) int64, the 3-D point of each patch.
    """

    root: Path
    mosaics: tuple[Path, ...]
    points: np.ndarray

    @classmethod
    def read(cls, root: Path) -> PhotoTour:
        """Reads what a folder holds; no patch yet.

        Raises:
            DataError: There are no mosaics or no `info.txt`, or too few mosaics for it.
        """
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        mosaics = tuple(sorted(root.glob("patches*.bmp")))
        if not mosaics:
            raise DataError(f"{root}: no patches*.bmp in it; a set is a folder such as liberty, unpacked")
        numbers = [line.split()[0] for _, line in read_lines(root / "info.txt", "list of points")]
        try:
            points = np.array(numbers, np.int64)
        except ValueError:
            raise DataError(f"{root / 'info.txt'}: a line begins with no number of a point") from None
        if not 0 < len(points) <= len(mosaics) * _PER_MOSAIC:
            raise DataError(
                f"{root}: info.txt states {len(points)} patches, and {len(mosaics)} mosaics hold up to "
                f"{len(mosaics) * _PER_MOSAIC}; is the folder complete?"
            )
        return cls(root, mosaics, points)

    def patch(self, number: int) -> np.ndarray:
        """(64, 64, 1) uint8; only its own bytes of the file are read."""
        mosaic, place = divmod(int(number), _PER_MOSAIC)
        row, column = (each * SIDE for each in divmod(place, ROW))
        pixels = _open_bitmap(self.mosaics[mosaic])
        return np.array(pixels[row : row + SIDE, column : column + SIDE])[..., None]

    def pair(self, first: int, second: int, ways: int = 0) -> Sample:
        """The pair of two patches, both in one of the eight flipped and rotated forms."""
        sources = [
            ImageSource(np.ascontiguousarray(turned(self.patch(number), ways)), f"{self.root.name}[{number}]")
            for number in (first, second)
        ]
        same = bool(self.points[first] == self.points[second])
        return pair_sample(sources[0], sources[1], same, f"{self.root.name} {first} {second}")


def _open_bitmap(path: Path) -> np.ndarray:
    """(h, w) uint8 of a gray bitmap without compression, mapped from the file.

    Raises:
        DataError: Another type of file, or another size than that of a mosaic.
    """
    try:
        with path.open("rb") as file:
            head = file.read(54)
            offset, _, width, height, _, bits, packed = struct.unpack("<IIiiHHI", head[10:34])
            if head[:2] != b"BM" or bits != 8 or packed or (width, abs(height)) != (ROW * SIDE, ROW * SIDE):
                raise DataError(f"{path}: no gray bitmap of {ROW * SIDE} x {ROW * SIDE} pixels, as mosaics are")
            pixels = np.memmap(path, np.uint8, "r", offset, (abs(height), width))
    except (OSError, ValueError, struct.error) as error:
        raise DataError(f"{path}: cannot be read as a bitmap ({' '.join(str(error).split())[:80]})") from None
    return pixels[::-1] if height > 0 else pixels  # bitmaps begin with their last row


def read_pairs(path: Path, count: int) -> np.ndarray:
    """(P, 2) numbers of the patches of each pair.

    Args:
        path: List with `patch point unused patch point unused` per line; whether points are equal is known already.
        count: Number of patches.

    Raises:
        DataError: It cannot be read, or names a patch that is not there.
    """
    lines = read_text(path, what="list of pairs").split("\n")
    rows = [line.split() for line in lines if line.strip()]
    try:
        pairs = np.array([[row[0], row[3]] for row in rows], np.int64).reshape(-1, 2)
    except (IndexError, ValueError):
        raise DataError(f"{path}: its lines are not `patch point unused patch point unused`") from None
    if not len(pairs) or pairs.min() < 0 or pairs.max() >= count:
        raise DataError(f"{path}: no pairs, or a patch beyond the {count} of info.txt")
    return pairs


class ListedPairs(Sequence[Sample]):
    """The pairs of a list.

    Args:
        patches: The set.
        pairs: (P, 2) numbers of patches.
    """

    def __init__(self, patches: PhotoTour, pairs: np.ndarray) -> None:
        self.patches, self.pairs = patches, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return self.patches.pair(*self.pairs[index].tolist())


class DrawnPairs(Sequence[Sample]):
    """Pairs that are drawn, matches and others in turn.

    Args:
        patches: The set.
        chosen: Numbers of the points that are used, among the distinct ones in ascending order.
        count: Number of pairs.
        seed: Random seed of those outside of training.
        flips: Flip and rotate both patches alike.
    """

    def __init__(self, patches: PhotoTour, chosen: np.ndarray, count: int, seed: int, flips: bool) -> None:
        self.patches, self.length, self.seed, self.flips = patches, count, seed, flips
        order = np.argsort(patches.points, kind="stable")
        _, starts = np.unique(patches.points[order], return_index=True)
        groups = np.split(order, starts[1:])
        self.groups = [groups[int(number)] for number in chosen]
        self.repeated = np.flatnonzero([len(group) > 1 for group in self.groups])
        if len(self.groups) < 2 or not len(self.repeated):
            raise DataError(
                f"{patches.root}: no pairs can be drawn of {len(self.groups)} points; it takes two, one of two patches"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(self.length)[index]
        return self.drawn(number, rng_for(self.seed, 0, number))

    def drawn(self, index: int, rng: np.random.Generator) -> Sample:
        """The pair of that number: two patches of one point, or of two."""
        if index % 2 == 0:
            group = self.groups[int(rng.choice(self.repeated))]
            first, second = rng.choice(group, 2, replace=False)
        else:
            a = int(rng.integers(len(self.groups)))
            b = (a + 1 + int(rng.integers(len(self.groups) - 1))) % len(self.groups)
            first, second = (rng.choice(self.groups[each]) for each in (a, b))
        return self.patches.pair(int(first), int(second), int(rng.integers(8)) if self.flips else 0)
