"""TUM RGB-D: sequences of a Kinect whose images and depth are matched by their time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from datamodules.depth_data import DepthData, DepthFiles, Pairs, check_unit
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.listing import list_folders, resolve_listed
from visionkit.text_files import read_lines, real_number

UNITS = 5000.0
"""Of TUM's 16-bit png files for a meter; 0 is not measured."""


class TumDepthData(DepthData):
    """Sequences of the TUM RGB-D benchmark (Sturm et al., 2012) and of sets in its format (ICL-NUIM, Bonn).

    A sequence is a folder with `rgb.txt` and `depth.txt`, lines of a time stamp in seconds and a file. An image goes
    with the depth that is nearest in time, as the benchmark's `associate.py` matches them; each is used once.

    Args:
        root: A sequence, or a folder of sequences.
        val_sequences: Names of the sequences that are for validation.
        test_sequences: Names of those for testing.
        max_difference: Seconds between an image and its depth at most.
        units_per_meter: What stands for a meter in the files.
        **base: See `DepthData`.
    """

    def __init__(
        self,
        root: str,
        *,
        val_sequences: Sequence[str] = (),
        test_sequences: Sequence[str] = (),
        max_difference: float = 0.02,
        units_per_meter: float = UNITS,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_unit(units_per_meter)
        self.root, self.units_per_meter, self.max_difference = Path(root), units_per_meter, max_difference
        self.sequences: dict[str, Split] = {
            **dict.fromkeys(val_sequences, "val"),
            **dict.fromkeys(test_sequences, "test"),
        }

    def find(self) -> Pairs:
        """Reads the lists of every sequence."""
        folders = [self.root] if (self.root / "rgb.txt").is_file() else list_folders(self.root)
        folders = [folder for folder in folders if (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()]
        if not folders:
            raise DataError(f"{self.root}: no sequence of TUM RGB-D here; one is a folder with rgb.txt and depth.txt")
        names = [folder.name for folder in folders]
        for name in self.sequences:
            if name not in names:
                raise UsageError(f"{self.root}: there is no sequence {name!r}{suggest(name, names)}")
        images, depths, splits, alone = list[str](), list[str](), list[str](), 0
        for folder in folders:
            listed = [_read(folder / "rgb.txt"), _read(folder / "depth.txt")]
            pairs = associate(listed[0][0], listed[1][0], self.max_difference)
            alone += len(listed[0][0]) - len(pairs)
            images += [str(resolve_listed(folder, listed[0][1][k])) for k, _ in pairs]
            depths += [str(resolve_listed(folder, listed[1][1][k])) for _, k in pairs]
            splits += [self.sequences.get(folder.name, "train")] * len(pairs)
        missing = [path for path in (*images, *depths) if not Path(path).is_file()]
        if missing:
            raise DataError(f"{self.root}: {len(missing)} files of the lists are missing: {shorten(missing, 2)}")
        if not images:
            raise DataError(
                f"{self.root}: no image has a depth within {self.max_difference:g} s (--data.max_difference)"
            )
        over = {f"images without a depth within {self.max_difference:g} s": alone} if alone else {}
        store = DepthFiles(images, depths, self.units_per_meter)
        return Pairs(store, self.hold_out(store.name, np.array(splits)), f"{self.root}, {len(folders)} sequences", over)


def associate(first: np.ndarray, second: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Pairs of time stamps that are nearest to each other, nearest pairs first, each used once.

    Args:
        first: (n,) seconds.
        second: (m,) seconds.
        most: Seconds between two of a pair at most; less than that.

    Returns:
        Positions in both, ascending in the first.
    """
    order = np.argsort(second, kind="stable")
    sorted_second = second[order]
    low = np.searchsorted(sorted_second, first - most, side="right")
    high = np.searchsorted(sorted_second, first + most, side="left")
    near = [(abs(first[a] - second[b]), a, int(b)) for a in range(len(first)) for b in order[low[a] : high[a]]]
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for _, a, b in sorted(near):
        if a not in pairs and b not in used:
            pairs[a] = b
            used.add(b)
    return sorted(pairs.items())


def _read(file: Path) -> tuple[np.ndarray, list[str]]:
    """Time stamps and paths of a list."""
    stamps, names = [], []
    for number, line in read_lines(file):
        if line.startswith("#"):
            continue
        stamp, _, name = line.replace(",", " ").partition(" ")
        if not name.strip():
            raise DataError(f"{file} line {number}: a line is a time stamp and a file, not {line[:60]!r}")
        stamps.append(real_number(stamp, f"{file} line {number}", "the time stamp"))
        names.append(name.strip())
    return np.array(stamps), names
