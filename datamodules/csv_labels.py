"""Labels in a CSV file: `path,label`, or one 0/1 column per class; a `split` column is optional."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import index_classes, shorten
from datamodules.image_store import FileStore, LabeledImages, PixelCache
from datamodules.splits import SPLIT_WORDS, SPLITS, split_of
from datamodules.splitting import SplittingData
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, suggest
from visionkit.listing import resolve_listed
from visionkit.names import normalized
from visionkit.refusals import refuse
from visionkit.text_files import read_csv
from visionkit.types import Sample
from visionkit.wording import counted


class CsvData(SplittingData):
    """Images listed in a CSV file with a header line.

    With a label column every image has one class. Without one, every column beside path and split is a class and
    holds 0 or 1: the labels are then multi-label, (K,) float32.

    Args:
        csv: The file; utf-8, separated by commas, semicolons or tabs.
        root: Folder that the paths are relative to; by default that of the CSV file.
        path_column: Holds the path of the image.
        label_column: Holds the class name.
        split_column: Where it exists: train, val or test.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        augment: Changes training samples.
        **base: See `SplittingData`.

    Example:
        >>> CsvData.discover_classes(csv="labels.csv")
        ['cat', 'dog']
    """

    def __init__(
        self,
        csv: str,
        *,
        root: str | None = None,
        path_column: str = "path",
        label_column: str = "label",
        split_column: str = "split",
        cache_mb: int = 512,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.csv = Path(csv)
        self.root = self.csv.parent if root is None else Path(root)
        self.columns = _Columns(path_column, label_column, split_column)
        self.cache_mb = cache_mb
        self.classes = self.classes or tuple(_classes(_read(self.csv, self.columns)))
        self._table: tuple[FileStore, np.ndarray, dict[Split, np.ndarray]] | None = None

    @classmethod
    def discover_classes(
        cls,
        csv: str = "",
        path_column: str = "path",
        label_column: str = "label",
        split_column: str = "split",
        **init_args: Any,
    ) -> list[str]:
        """Class names in alphabetical order, or the class columns in the file's order; no image is processed."""
        return _classes(_read(Path(csv), _Columns(path_column, label_column, split_column)))

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The rows of one split in the file's order; the first call checks that all images are there."""
        store, labels, splits = self._load()
        rows = splits[split]
        if len(rows) == 0:
            raise self.missing(split, f"{self.csv}, column {self.columns.split}")
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_images(store, rows, channels, self.cache_mb)
        return LabeledImages(store, rows, labels[rows], cache)

    def summary(self, split: Split) -> SplitSummary:
        """Images per class, and where the split comes from."""
        summary = super().summary(split)
        return replace(summary, source=self.part_of(split, self.csv) if split in self._absent else str(self.csv))

    def _load(self) -> tuple[FileStore, np.ndarray, dict[Split, np.ndarray]]:
        if self._table is None:
            table = _read(self.csv, self.columns)
            labels = _labels(table, self.classes)
            files = _files(table, self.root)
            splits = np.array(_splits(table))
            rows: dict[Split, np.ndarray] = {
                "train": np.flatnonzero(splits == "train"),
                "val": np.flatnonzero(splits == "val"),
                "test": np.flatnonzero(splits == "test"),
            }
            train, absent = rows["train"], self.absent([split for split in SPLITS if len(rows[split])])
            order = np.argsort(np.array(self.classes))
            parts = self.split_off([os.path.join(self.root, files[row]) for row in train], absent, labels[train], order)  # noqa: PTH118
            rows |= {split: train[parts[split]] for split in ("train", *absent)}
            self._table = FileStore(self.root, files), labels, rows
        return self._table


class _Columns(NamedTuple):
    path: str
    label: str
    split: str


class _Row(NamedTuple):
    line: int
    cells: list[str]


class _Table(NamedTuple):
    file: Path
    header: list[str]
    rows: list[_Row]
    path: int  # columns by number
    label: int | None
    split: int | None

    @property
    def class_columns(self) -> list[int]:
        return [k for k in range(len(self.header)) if k not in (self.path, self.split)]

    def place(self, row: _Row) -> str:
        return f"{self.file} line {row.line}"


def _read(file: Path, columns: _Columns) -> _Table:
    rows = [_Row(line, cells) for line, cells in read_csv(file, "CSV file; give --data.csv")]
    if len(rows) < 2:
        raise DataError(f"{file}: no rows; a header line and one line per image are needed")
    header = [normalized(name) for name in rows.pop(0).cells]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file} line 1: column {twice[0]!r} is there twice")
    if columns.path not in header:
        raise DataError(
            f"{file} line 1: no column {columns.path!r} for the images among {shorten(header)}; "
            f"set --data.path_column{suggest(columns.path, header)}"
        )
    numbers = {name: k for k, name in enumerate(header)}
    table = _Table(file, header, rows, numbers[columns.path], numbers.get(columns.label), numbers.get(columns.split))
    for row in rows:
        if len(row.cells) != len(header):
            error = f"{table.place(row)}: {len(row.cells)} cells where the header has {len(header)} columns"
            refuse("broken-label", DataError(error))
    rows[:] = [row for row in rows if len(row.cells) == len(header)]
    if table.label is None:
        _check_class_columns(table, columns.label)
    _check_paths(table)
    return table


def _check_class_columns(table: _Table, label_column: str) -> None:
    if not table.class_columns:
        raise DataError(
            f"{table.file} line 1: no column {label_column!r} and no class columns among {shorten(table.header)}; "
            "set --data.label_column"
        )
    for row in table.rows:
        for k in table.class_columns:
            if row.cells[k] not in ("0", "1", "0.0", "1.0"):
                raise DataError(
                    f"{table.place(row)}: {row.cells[k]!r} in column {table.header[k]!r}; without a column "
                    f"{label_column!r} every column is a class and holds 0 or 1 (--data.label_column names another)"
                    f"{suggest(label_column, table.header)}"
                )


def _check_paths(table: _Table) -> None:
    lines: dict[str, int] = {}
    for row in table.rows:
        path = row.cells[table.path]
        if not path:
            raise DataError(f"{table.place(row)}: no path")
        if path in lines:
            refuse("duplicate-entry", DataError(f"{table.place(row)}: {path!r} is in line {lines[path]} already"))
        lines[path] = row.line


def _classes(table: _Table) -> list[str]:
    if table.label is None:
        return [table.header[k] for k in table.class_columns]
    return sorted({normalized(row.cells[table.label]) for row in table.rows})


def _labels(table: _Table, classes: Sequence[str]) -> np.ndarray:
    """(n,) int64, or (n, K) float32 in the order of `classes`."""
    if table.label is not None:
        places: dict[str, str] = {}
        for row in table.rows:
            name = normalized(row.cells[table.label])
            if not name:
                raise DataError(f"{table.place(row)}: no label")
            places.setdefault(name, table.place(row))
        numbers = index_classes(places, classes)
        return np.array([numbers[normalized(row.cells[table.label])] for row in table.rows], dtype=np.int64)
    numbers = index_classes({table.header[k]: f"{table.file} line 1" for k in table.class_columns}, classes)
    missing = [name for name in classes if name not in table.header]
    if missing:
        raise DataError(f"{table.file} line 1: no column for class {missing[0]!r}{suggest(missing[0], table.header)}")
    labels = np.zeros((len(table.rows), len(numbers)), dtype=np.float32)
    for k in table.class_columns:
        labels[:, numbers[table.header[k]]] = [float(row.cells[k]) for row in table.rows]
    return labels


def _splits(table: _Table) -> list[Split]:
    if table.split is None:
        return ["train"] * len(table.rows)
    splits: list[Split] = []
    for row in table.rows:
        name = row.cells[table.split]
        split = split_of(name)
        if split is None:
            error = f"{table.place(row)}: split {name!r}; allowed are train, val and test{suggest(name, SPLIT_WORDS)}"
            refuse("broken-label", DataError(error))
            split = "train"
        splits.append(split)
    return splits


def _files(table: _Table, root: Path) -> list[str]:
    """The path of every image below the root; asks for its size, so a missing one is reported now, not in mid-epoch."""
    missing, empty, found = [], [], []
    base = str(root)
    for row in table.rows:
        path = row.cells[table.path]
        try:
            size = os.stat(os.path.join(base, path)).st_size  # noqa: PTH116, PTH118 (a hot path)
        except (OSError, ValueError):
            path, size = str(resolve_listed(root, path).absolute()), -1
            if Path(path).is_file():
                size = Path(path).stat().st_size
        if size < 0:
            missing.append(f"{row.cells[table.path]} (line {row.line})")
        elif size == 0:
            empty.append(f"{row.cells[table.path]} (line {row.line})")
        found.append(path)
    for what, listed in (("missing", missing), ("empty (0 bytes)", empty)):
        if listed:
            error = (
                f"{table.file}: {len(listed)} of {counted(len(table.rows), 'image')} are {what}: {shorten(listed, 3)}; "
                f"paths are looked for in {root} (--data.root)"
            )
            refuse("refused", DataError(error))
    return found
