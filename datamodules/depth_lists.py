"""A list of pairs: one line a picture, its path, the path of its depth, and its split where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.depth_files import DEPTH_SUFFIXES, DepthData, DepthFiles, Pairs, check_every, check_unit, held_out
from datamodules.splits import SPLIT_WORDS, split_of
from visionkit.data import Split
from visionkit.errors import DataError, suggest


class DepthListData(DepthData):
    """Pairs from a text file of a picture, its depth and, where there are splits, `train`, `val` or `test` a line.

    Columns are separated by tabs, commas or blanks; a fourth one and what follows is left out (BTS's lists have a focal
    length as the third, which is taken for no split). A first line that names the columns is left out too.

    Args:
        list: The file.
        root: Folder that its paths start from; the list's own folder where left out.
        units_per_metre: See `DepthFolderData`.
        val_every: Where no line is for validation, each n-th of the training lines is; 0 none.
        test_every: The same for testing.
        cache_mb: See `DepthData`.
        augment: Changes training samples.
        **base: See `VisionDataModule`.
    """

    def __init__(
        self,
        list: str,
        *,
        root: str | None = None,
        units_per_metre: float | None = None,
        val_every: int = 8,
        test_every: int = 0,
        cache_mb: int = 512,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(cache_mb=cache_mb, augment=augment, **base)
        check_unit(units_per_metre)
        self.list, self.units_per_metre = Path(list), units_per_metre
        self.root = Path(root) if root else self.list.parent
        self.every: dict[Split, int] = {"test": test_every, "val": val_every}
        check_every(self.every)

    def find(self) -> Pairs:
        """Reads the list and looks for every file."""
        lines = _read(self.list)
        for what in ("picture", "depth"):
            paths = [(getattr(each, what), each.number) for each in lines]
            missing = [f"{path} (line {number})" for path, number in paths if not (self.root / path).is_file()]
            if missing:
                raise DataError(
                    f"{self.list}: {len(missing)} of {len(lines)} {what} files are missing: {shorten(missing, 3)}; "
                    f"paths are looked for in {self.root} (--data.root)"
                )
        store = DepthFiles(
            [str(self.root / each.picture) for each in lines],
            [str(self.root / each.depth) for each in lines],
            self.units_per_metre,
        )
        return Pairs(store, held_out(np.array([each.split for each in lines]), self.every))

    def advice(self, split: Split) -> str:
        """What to do where a split is empty."""
        return f"{self.list}: no line is for {split}; write {split} into its third column or set --data.{split}_every 8"


class _Line(NamedTuple):
    number: int
    picture: str
    depth: str
    split: Split


def _read(file: Path) -> list[_Line]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{file}: no such list; give --data.list") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as utf-8 text ({error})") from None
    found: list[_Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = "\t" if "\t" in line else "," if "," in line else None
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise DataError(f"{file} line {number}: a picture and its depth are needed, separated by a tab")
        if not cells[1].lower().endswith(DEPTH_SUFFIXES):
            if not found:
                continue  # the names of the columns
            raise DataError(
                f"{file} line {number}: {cells[1]!r} is no depth; endings read are {' '.join(DEPTH_SUFFIXES)}"
            )
        found.append(_Line(number, cells[0], cells[1], _split(file, number, cells[2] if len(cells) > 2 else "")))
    if not found:
        raise DataError(f"{file}: no pairs; a line is picture, tab, depth")
    return found


def _split(file: Path, number: int, word: str) -> Split:
    if not word or word.replace(".", "", 1).isdigit():
        return "train"
    split = split_of(word)
    if split is None:
        raise DataError(
            f"{file} line {number}: split {word!r}; allowed are train, val and test{suggest(word, SPLIT_WORDS)}"
        )
    return split
