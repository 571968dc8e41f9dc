"""DeepLabCut's labels of one animal or several: `labeled-data/VIDEO/CollectedData_SCORER.csv` beside its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData, boxless_entry
from datamodules.splits import SPLITS, split_folders
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.families.keypoints.skeleton_names import find_skeleton, named_skeleton, order_of
from visionkit.listing import list_files, resolve_listed
from visionkit.plain_values import plain
from visionkit.text_files import read_csv, read_yaml, real_number, shown

_LABELS = "CollectedData_"
_ALONE = "single"  # what is there once, beside the individuals: corners of an arena
_HEADS = ("scorer", "individuals", "bodyparts", "coords")


class DeepLabCutData(PoseData):
    """Animals of DeepLabCut's csv files, one per labeled folder; of several animals each individual is one.

    The csv has no boxes: they are made about the labeled keypoints. Of a project with several individuals the body
    parts of the whole scene (`single`) are left out and counted. An `.h5` file is not read: DeepLabCut writes the csv
    beside it.

    Args:
        root: The project, a folder in it, or one csv file. Where it has folders of splits (`train`, `val`), each holds
            the labels of its split; otherwise some of the frames are split off.
        skeleton: Name, yaml file or content of the skeleton; by default the body parts, with the edges of the
            project's `config.yaml`.
        **base: See `datamodules.pose_data.PoseData`.

    Example:
        >>> DeepLabCutData("reaching-mackenzie-2018-08-30").skeleton.keypoints[:2]
        ('Hand', 'Finger1')
    """

    def __init__(self, root: str, *, skeleton: str | dict[str, Any] | None = None, **base: Any) -> None:
        super().__init__(skeleton=self.linked("skeleton", root=root) if skeleton is None else skeleton, **base)
        self.root = Path(root)

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def linked(cls, name: str, root: str = "", **init_args: Any) -> Any:
        """The body parts of the training labels; a shipped skeleton's name where it has exactly these."""
        if name != "skeleton":
            return None
        names = _read(_any_label_files(Path(root))[0]).names
        found = find_skeleton(names)
        if found is not None and order_of(names, found) == list(range(len(found))):
            return found.name
        return plain(named_skeleton(names, _edges(Path(root), names), "deeplabcut", "animal"))

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        files = _label_files(self.root, split)
        if files is None:
            return None
        counts: dict[str, int] = {}
        entries = [entry for file in files for entry in self._entries(_read(file), counts)]
        self.note(split, self.root, counts)
        return entries

    def _entries(self, table: _Table, counts: dict[str, int]) -> list[AnnotatedImage]:
        unknown = [name for name in table.names if name not in self.skeleton.keypoints]
        if unknown:
            raise DataError(
                f"{table.path}: the body part {unknown[0]!r} is none of skeleton {self.skeleton.name}; all csv files "
                "of a project have the same body parts, or give the skeleton with --data.skeleton"
            )
        if table.left_out:
            what = "body parts that are there once per scene"
            counts[what] = counts.get(what, 0) + table.left_out
        order = [self.skeleton.keypoints.index(name) for name in table.names]
        out = []
        for line, cells in table.rows:
            place = f"{table.path} line {line}"
            rows = []
            for columns in table.individuals:
                keypoints = np.zeros((len(self.skeleton), 3), dtype=np.float32)
                for number, pair in zip(order, columns, strict=True):
                    keypoints[number] = _point(cells, pair, place)
                if (keypoints[:, 2] > 0).any():
                    rows.append(keypoints)
            everyone = np.array(rows, dtype=np.float32).reshape(-1, len(self.skeleton), 3)
            out.append(boxless_entry(_image(table, cells), place, everyone))
        return out


class _Table(NamedTuple):
    """One csv file.

    Attributes:
        path: Path of the file.
        names: Names of the body parts, as each individual has them.
        individuals: For each one the columns of x and y of each body part.
        rows: Line numbers and cells below the head.
        lead: Columns before the coordinates, which name the image.
        left_out: Body parts that belong to no individual.
    """

    path: Path
    names: list[str]
    individuals: list[list[tuple[int, int]]]
    rows: list[tuple[int, list[str]]]
    lead: int
    left_out: int


def _label_files(root: Path, split: Split) -> list[Path] | None:
    """The csv files of a split; None where it has none of its own.

    Raises:
        DataError: No labels at all, or labels that only an `.h5` file has.
    """
    if root.is_file():
        return [root] if split == "train" else None
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder; give --data.root a DeepLabCut project")
    own = {each: files for each, folder in split_folders(root).items() if (files := _labels_in(folder))}
    files = own.get(split, []) if own else _labels_in(root) if split == "train" else []
    if not files and (own or split != "train"):
        return None
    bare = [path for path in files if path.suffix.lower() == ".h5" and path.with_suffix(".csv") not in files]
    if bare:
        raise DataError(
            f"{bare[0]}: no csv of that name beside it, and the h5 file holds pickled python, which is not read; "
            "deeplabcut.convert2_csv or pandas' to_csv writes the csv"
        )
    found = [path for path in files if path.suffix.lower() == ".csv"]
    if not found:
        raise DataError(f"{root}: no {_LABELS}*.csv of {split} in it; DeepLabCut writes them below labeled-data")
    return found


def _labels_in(folder: Path) -> list[Path]:
    # Beside the labels a project keeps copies of them, `training-datasets`.
    inner = folder / "labeled-data"
    files = list_files(inner if inner.is_dir() else folder, {".csv", ".h5"}).files
    return [path for path in files if path.name.startswith(_LABELS)]


def _any_label_files(root: Path) -> list[Path]:
    found = next((files for split in SPLITS if (files := _label_files(root, split))), None)
    if found is None:
        raise DataError(f"{root}: no {_LABELS}*.csv in it; DeepLabCut writes them below labeled-data")
    return found


def _read(path: Path) -> _Table:
    lines = read_csv(path)
    heads: dict[str, list[str]] = {}
    for _, cells in lines[: len(_HEADS)]:
        if cells[0].lower() in _HEADS:
            heads[cells[0].lower()] = cells
    if not {"bodyparts", "coords"} <= heads.keys():
        raise DataError(f"{path}: the first lines of DeepLabCut's csv are scorer, bodyparts and coords")
    coords, parts = heads["coords"], heads["bodyparts"]
    rows = lines[len(heads) :]
    index = next((k for k, cell in enumerate(coords) if k and cell), len(coords))
    people = heads.get("individuals") or [""] * len(coords)
    if not len(coords) == len(parts) == len(people):
        raise DataError(f"{path}: its lines bodyparts and coords have {len(parts)} and {len(coords)} columns")
    places: dict[str, dict[str, dict[str, int]]] = {}
    for column in range(index, len(coords)):
        axes = places.setdefault(people[column], {}).setdefault(parts[column], {})
        if coords[column] in axes:
            raise DataError(f"{path}: duplicate column {coords[column]} of {parts[column]}")
        axes[coords[column]] = column
    alone = places.pop(_ALONE, {}) if len(places) > 1 else {}
    names = list(next(iter(places.values()), {}))
    individuals = []
    for person, own in places.items():
        if sorted(own) != sorted(names) or not names:
            raise DataError(f"{path}: {person or 'it'} has the body parts {shorten(own)}, not {shorten(names)}")
        if not all({"x", "y"} <= own[name].keys() for name in names):
            raise DataError(f"{path}: a body part has the columns x and y")
        individuals.append([(own[name]["x"], own[name]["y"]) for name in names])
    if not individuals:
        raise DataError(f"{path}: it names no body parts")
    for line, cells in rows:
        if len(cells) != len(coords):
            raise DataError(f"{path} line {line}: {len(cells)} columns, and the head has {len(coords)}")
    return _Table(path, names, individuals, rows, index, len(alone))


def _point(cells: Sequence[str], pair: tuple[int, int], place: str) -> tuple[float, float, float]:
    """x, y and 2; zeros where the body part is not labeled."""
    given = [cells[column] for column in pair]
    if any(cell.lower() in ("", "nan") for cell in given):
        return 0.0, 0.0, 0.0
    x, y = (real_number(cell, place, what) for cell, what in zip(given, "xy", strict=True))
    if not math.hypot(x, y) < 1e7:
        raise DataError(f"{place}: a body part at {shown(given)} lies in no image")
    return x, y, 2.0


def _image(table: _Table, cells: Sequence[str]) -> Path:
    """The frame of a row: beside the csv file, or where the row states below the project."""
    named = "/".join(cell.replace("\\", "/") for cell in cells[: table.lead] if cell)
    name = named.rpartition("/")[2]
    if not name:
        raise DataError(f"{table.path}: a row names no image")
    beside = resolve_listed(table.path.parent, name)
    below = resolve_listed(table.path.parent.parent.parent, named)
    return below if below.is_file() and not beside.is_file() else beside


def _edges(root: Path, names: Sequence[str]) -> list[list[int]]:
    """The `skeleton` of the project's configuration as pairs of numbers from 1; none where it has none."""
    path = root / "config.yaml"
    if not path.is_file():
        return []
    top = read_yaml(path, as_text=True)
    pairs = top.get("skeleton") if isinstance(top, dict) else None
    number = {name: place for place, name in enumerate(names, 1)}
    return [
        [number[pair[0]], number[pair[1]]]
        for pair in pairs or []
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name in number for name in pair)
    ]
