"""Pairs of patches in files: a csv that lists them, or two folders of two views of each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.pairing import pair_by_name
from datamodules.splits import SPLIT_WORDS, SPLITS, split_of
from datamodules.splitting import SplittingData
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.listing import list_images, resolve_listed
from visionkit.loading import rng_for
from visionkit.text_files import flag, read_csv
from visionkit.types import Sample


def pair_sample(first: ImageSource, second: ImageSource, match: bool, name: str) -> Sample:
    """One pair."""
    target: Any = {"match": np.int64(match)}
    return Sample({"first": first, "second": second}, target, name)


class CsvPairData(SplittingData):
    """Pairs listed in a csv file with a header line: two paths, and whether they match.

    Where images are split off for validation, all pairs of one first image go to one split.

    Args:
        csv: The file; utf-8, separated by commas, semicolons or tabs.
        root: Folder that the paths are relative to; by default that of the csv file.
        label_column: Holds 1 or true for a match, 0 or false for another pair.
        split_column: Where it exists: train, val or test.
        **base: See `SplittingData`. The columns of the paths are `first` and `second`, the inputs of the model.

    Example:
        >>> CsvPairData("pairs.csv").samples("train")[0].target
        {'match': 1}
    """

    def __init__(
        self,
        csv: str,
        *,
        root: str | None = None,
        label_column: str = "label",
        split_column: str = "split",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.csv, self.root = Path(csv), Path(csv).parent if root is None else Path(root)
        self.label_column, self.split_column = label_column, split_column
        self._rows: dict[Split, list[_Row]] | None = None

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pairs of one split in the file's order."""
        rows = self._load()[split]
        if not rows:
            raise self.missing(split, f"{self.csv}, column {self.split_column}")
        return _Pairs(rows)

    def files(self, split: Split) -> Sequence[str]:
        return sorted({path for row in self._load()[split] for path in (row.first, row.second)})

    def summary(self, split: Split) -> SplitSummary:
        rows = self.samples(split)
        matches = sum(int(row.match) for row in self._load()[split])
        source = self.part_of(split, self.csv) if split in self._absent else str(self.csv)
        return SplitSummary(split, len(rows), source, notes=[f"{matches} pairs match, {len(rows) - matches} do not"])

    def _load(self) -> dict[Split, list[_Row]]:
        if self._rows is None:
            rows = self._read()
            named = {split: [row for row in rows if row.split == split] for split in SPLITS}
            absent = self.absent([split for split in SPLITS if named[split]])
            firsts = sorted({row.first for row in named["train"]})
            parts = self.split_off(firsts, absent)
            for split in (*absent, "train"):
                chosen = {firsts[int(number)] for number in parts[split]}
                named[split] = [row for row in rows if row.split == "train" and row.first in chosen]
            self._rows = named
        return self._rows

    def _read(self) -> list[_Row]:
        table = read_csv(self.csv, "csv file of pairs; give --data.csv")
        header = [name.lower() for name in table[0][1]] if table else []
        for name in ("first", "second", self.label_column):
            if name not in header:
                raise DataError(
                    f"{self.csv} line 1: no column {name!r} among {', '.join(header) or 'none'}; the columns are "
                    f"first, second and {self.label_column} (--data.label_column){suggest(name, header)}"
                )
        rows = []
        for number, cells in table[1:]:
            place = f"{self.csv} line {number}"
            if len(cells) != len(header):
                raise DataError(f"{place}: {len(cells)} cells where the header has {len(header)} columns")
            cell = dict(zip(header, cells, strict=True))
            paths = [resolve_listed(self.root, cell[name]) for name in ("first", "second")]
            for path in paths:
                if not path.is_file():
                    raise DataError(
                        f"{place}: {path} does not exist; paths are looked for in {self.root} (--data.root)"
                    )
            named = cell.get(self.split_column)
            split: Split | None = "train" if named is None else split_of(named)
            if split is None:
                raise DataError(
                    f"{place}: split {named!r}; allowed are train, val and test{suggest(str(named), SPLIT_WORDS)}"
                )
            match = flag(cell[self.label_column], place, self.label_column)
            rows.append(_Row(str(paths[0]), str(paths[1]), match, split))
        if not rows:
            raise DataError(f"{self.csv}: no pairs below its first line")
        return rows


@dataclass(frozen=True)
class _Row:
    first: str
    second: str
    match: bool
    split: Split


class _Pairs(Sequence[Sample]):
    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        row = self.rows[index]
        return pair_sample(ImageSource(row.first), ImageSource(row.second), row.match, f"{row.first} {row.second}")


class FolderPairData(SplittingData):
    """Two views of each place in two folders, paired by name, such as `ground/` and `aerial/` (Lin et al., 2015).

    Both views of one place are a match. Other pairs have the second view of another place, which is drawn: in training
    in each epoch again, in validation and test once. Places that are split off are in no other split.

    Args:
        root: Folder with both folders.
        val_root: The same for validation; by default, `val_fraction` of the places.
        test_root: The same for testing; by default, `test_fraction` of the places.
        first_folder: Name of the folder of the first views.
        second_folder: Name of the folder of the second views.
        negatives: Other pairs for each match.
        **base: See `SplittingData`.
    """

    def __init__(
        self,
        root: str = "",
        *,
        val_root: str | None = None,
        test_root: str | None = None,
        first_folder: str = "ground",
        second_folder: str = "aerial",
        negatives: int = 1,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if negatives < 0:
            raise UsageError(f"data.negatives {negatives}: at least 0")
        self.roots: dict[Split, str | None] = {"train": root or None, "val": val_root, "test": test_root}
        self.folders, self.negatives = (first_folder, second_folder), negatives
        self._places: dict[Split, list[tuple[Path, Path]]] = {}

    def dataset(self, split: Split) -> Sequence[Sample]:
        """A match of each place, each followed by its other pairs."""
        return PlacePairs(self.places(split), self.negatives, self.seed)

    def places(self, split: Split) -> list[tuple[Path, Path]]:
        """Both views of each place of a split."""
        if split not in self._places:
            self._places[split] = self._find(split)
        return self._places[split]

    def files(self, split: Split) -> Sequence[str]:
        return [str(path) for pair in self.places(split) for path in pair]

    def summary(self, split: Split) -> SplitSummary:
        summary = super().summary(split)
        root = self.roots[split]
        source = str(root) if root is not None else self.part_of(split, self.roots["train"])
        places = len(self.places(split))
        return replace(summary, source=source, notes=[f"{places} places, {self.negatives} other pairs for each match"])

    def _find(self, split: Split) -> list[tuple[Path, Path]]:
        absent = self.absent([each for each in SPLITS if self.roots[each] is not None])
        root = self.roots["train" if split in absent else split]
        if root is None and split == "train":
            raise UsageError("data: there are no pairs to train on; give their folder with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        first, second = (list_images(Path(root) / name) for name in self.folders)
        places = pair_by_name(first, second, f"image in {self.folders[1]}").pairs
        if split in ("train", *absent):
            rows = self.split_off([str(path) for path, _ in places], absent)[split]
            if not len(rows):
                raise self.missing(split, root)
            places = [places[int(row)] for row in rows]
        if len(places) < 2 and self.negatives:
            raise DataError(f"{root}: {len(places)} place in the {split} split; other pairs need two places at least")
        return places


class PlacePairs(Sequence[Sample]):
    """Matches of places, and pairs of two places.

    Args:
        places: Both views of each place.
        negatives: Other pairs for each match.
        seed: Random seed of those outside of training.
    """

    def __init__(self, places: Sequence[tuple[Path, Path]], negatives: int, seed: int) -> None:
        self.places, self.negatives, self.seed = places, negatives, seed

    def __len__(self) -> int:
        return len(self.places) * (1 + self.negatives)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self.drawn(number, rng_for(self.seed, 0, number))

    def drawn(self, index: int, rng: np.random.Generator) -> Sample:
        """The pair of that number; of what is no match the second view is drawn."""
        place, number = divmod(index, 1 + self.negatives)
        other = place if number == 0 else (place + 1 + int(rng.integers(len(self.places) - 1))) % len(self.places)
        first, second = self.places[place][0], self.places[other][1]
        return pair_sample(ImageSource(first), ImageSource(second), number == 0, f"{first} {second.name}")
