"""A list of pairs: one line per image, its path, the path of its depth, and its split where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.depth_data import DepthData, DepthFiles, Pairs, check_unit
from datamodules.depth_files import DEPTH_SUFFIXES
from datamodules.splits import SPLIT_WORDS, split_of
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.listing import resolve_listed
from visionkit.text_files import read_lines


class DepthListData(DepthData):
    """Pairs from a text file of an image, its depth and, where there are splits, `train`, `val` or `test` a line.

    Columns are separated by tabs, commas or blanks; a fourth one and what follows is left out (BTS's lists have a focal
    length as the third, which is taken for no split). A first line that names the columns is left out too, and images
    whose depth is called `None`, as BTS's lists have them, are passed over.

    Args:
        list: The file.
        root: Folder that its paths start from; the list's own folder by default.
        depth_root: Folder that the paths of depth start from, where it is another one.
        units_per_meter: See `DepthFolderData`.
        **base: See `DepthData`.
    """

    def __init__(
        self,
        list: str,
        *,
        root: str | None = None,
        depth_root: str | None = None,
        units_per_meter: float | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_unit(units_per_meter)
        self.list, self.units_per_meter = Path(list), units_per_meter
        self.root = Path(root) if root else self.list.parent
        self.depth_root = Path(depth_root) if depth_root else self.root

    def find(self) -> Pairs:
        """Reads the list and looks for every file."""
        lines, without = _read(self.list)
        images = [_file(self.root, each.image) for each in lines]
        depths = [_file(self.depth_root, each.depth) for each in lines]
        options = ("image", images, self.root, "root"), ("depth", depths, self.depth_root, "depth_root")
        for what, paths, root, option in options:
            missing = [
                f"{getattr(each, what)} (line {each.number})"
                for each, path in zip(lines, paths, strict=True)
                if not path.is_file()
            ]
            if missing:
                raise DataError(
                    f"{self.list}: {len(missing)} of {len(lines)} {what} files are missing: {shorten(missing, 3)}; "
                    f"paths are looked for in {root} (--data.{option})"
                )
        store = DepthFiles([str(path) for path in images], [str(path) for path in depths], self.units_per_meter)
        over = {"images whose depth is None": without} if without else {}
        splits = self.hold_out(store.name, np.array([each.split for each in lines]))
        return Pairs(store, splits, str(self.list), over)


class _Line(NamedTuple):
    number: int
    image: str
    depth: str
    split: Split


def _file(root: Path, name: str) -> Path:
    """A file that a list names; BTS's lists begin their paths with a slash and mean the folder of the data."""
    path = resolve_listed(root, name)
    return path if path.is_file() or not name.startswith("/") else resolve_listed(root, name.lstrip("/"))


def _read(file: Path) -> tuple[list[_Line], int]:
    """The lines with a depth, and the number of those without."""
    found: list[_Line] = []
    without = 0
    for number, line in read_lines(file, "list; give --data.list"):
        if line.startswith("#"):
            continue
        separator = "\t" if "\t" in line else "," if "," in line else None
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise DataError(f"{file} line {number}: an image and its depth are needed, separated by a tab")
        if cells[1].lower() in ("none", "null", "nan"):
            without += 1
            continue
        if not cells[1].lower().endswith(DEPTH_SUFFIXES):
            if not found:
                continue  # the names of the columns
            raise DataError(
                f"{file} line {number}: {cells[1]!r} is no depth; endings read are {' '.join(DEPTH_SUFFIXES)}"
            )
        found.append(_Line(number, cells[0], cells[1], _split(file, number, cells[2] if len(cells) > 2 else "")))
    if not found:
        raise DataError(f"{file}: no pairs; a line is image, tab, depth")
    return found, without


def _split(file: Path, number: int, word: str) -> Split:
    if not word or word.replace(".", "", 1).isdigit():
        return "train"
    split = split_of(word)
    if split is None:
        raise DataError(
            f"{file} line {number}: split {word!r}; allowed are train, val and test{suggest(word, SPLIT_WORDS)}"
        )
    return split
