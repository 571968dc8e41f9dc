"""Boxes in csv: one row per object, with any of the usual column names or none; and Open Images' own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import index_classes, shorten
from datamodules.coco_places import find_image_folder
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData
from datamodules.splits import SPLITS, find_split, split_of
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.listing import list_images, resolve_listed
from visionkit.names import checked_name
from visionkit.text_files import flag, is_number, read_csv, real_number

_COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "image",
        "image_path",
        "image_name",
        "img",
        "imageid",
        "image_id",
    ),
    "label": ("label", "class", "class_name", "name", "category", "labelname"),
    "x1": ("xmin", "x_min", "x1", "left"),
    "y1": ("ymin", "y_min", "y1", "top"),
    "x2": ("xmax", "x_max", "x2", "right"),
    "y2": ("ymax", "y_max", "y2", "bottom"),
    "x": ("x",),
    "y": ("y",),
    "w": ("w", "width", "box_width", "bbox_width"),
    "h": ("h", "height", "box_height", "bbox_height"),
    "split": ("split", "set", "subset"),
    "crowd": ("iscrowd", "isgroupof", "difficult"),
}
_BARE = ("path", "x1", "y1", "x2", "y2", "label")  # without a header line
_FRACTIONS = ("imageid", "labelname")  # Open Images' columns, whose coordinates are fractions


class Table(NamedTuple):
    """A csv file of boxes.

    Attributes:
        path: Path of the file.
        columns: Position of each column by what it means.
        rows: Line numbers and cells.
        fractions: Coordinates are fractions of the image.
    """

    path: Path
    columns: dict[str, int]
    rows: list[tuple[int, list[str]]]
    fractions: bool

    def cell(self, cells: Sequence[str], what: str) -> str:
        """The cell of a column; empty where there is none."""
        place = self.columns.get(what)
        return cells[place] if place is not None and place < len(cells) else ""


class CsvBoxData(ObjectData):
    """Boxes of a csv file: an image, a class and x1, y1, x2, y2 (or x, y, width, height) in pixels per row.

    A row with an image alone is an image without objects. Without a header line the columns are path, x1, y1, x2, y2,
    label. A column `split` names the split of each row.

    Args:
        csv: The file; or a path with `{split}` in it, one file for each split.
        root: Folder of the images; that of the file by default.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are those of the rows in alphabetical order.
    """

    def __init__(self, csv: str, *, root: str | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.csv, self.folder = csv, Path(root) if root is not None else None
        self.classes = self.classes or tuple(self.discover_classes(csv))

    @property
    def source(self) -> str:
        return self.csv

    @classmethod
    def discover_classes(cls, csv: str = "", **init_args: Any) -> list[str]:
        """The classes of the training rows in alphabetical order."""
        table = next((table for split in SPLITS if (table := _table(csv, split)) is not None), None)
        if table is None:
            raise DataError(f"{csv}: no such csv file; give --data.csv")
        found = {_label(table, line, cells) for line, cells in table.rows}
        return sorted(name for name in found if name)

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        table = _table(self.csv, split)
        if table is None:
            if split == "train":
                raise DataError(f"{self.csv}: no such csv file; give --data.csv")
            return None
        rows = _of_split(table, split, "{split}" in self.csv)
        if rows is None:
            return None
        names = list(dict.fromkeys(table.cell(cells, "path") for _, cells in rows))
        folder = self.folder or find_image_folder(table.path.parent, split, table.path, names, None)
        self.note(split, table.path)
        return box_entries(table, rows, {name: str(resolve_listed(folder, name)) for name in names}, self.classes)


class OpenImagesData(ObjectData):
    """Boxes of Open Images' csv files; groups of many are crowds.

    Args:
        root: The folder, with `train-annotations-bbox.csv`, `validation-annotations-bbox.csv`, ... and
            `class-descriptions-boxable.csv`, below which the images are called by their ids.
        labels: Name of the label files, with `{split}` in place of the split.
        descriptions: Name of the file that states which code is which class; codes stay where it is absent.
        images: Folder of the images, which may have `{split}` in it; by default that of the split, or `images`.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are those of the rows in alphabetical order.
    """

    def __init__(
        self,
        root: str,
        *,
        labels: str = "*{split}*annotations-bbox*.csv",
        descriptions: str = "class-descriptions*.csv",
        images: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.root, self.labels, self.images = Path(root), labels, images
        self.names = _descriptions(self.root, descriptions)
        self.classes = self.classes or tuple(self.discover_classes(root, labels=labels, descriptions=descriptions))

    @classmethod
    def discover_classes(
        cls,
        root: str = "",
        labels: str = "*{split}*annotations-bbox*.csv",
        descriptions: str = "class-descriptions*.csv",
        **init_args: Any,
    ) -> list[str]:
        """The classes of the training rows in alphabetical order."""
        names = _descriptions(Path(root), descriptions)
        found = next((path for split in SPLITS if (path := _open_images_file(Path(root), labels, split))), None)
        if found is None:
            raise DataError(f"{root}: no label file like {labels}; give --data.labels")
        table = read_boxes(found)
        codes = {_label(table, line, cells) for line, cells in table.rows}
        return sorted(names.get(code, code) for code in codes if code)

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        path = _open_images_file(self.root, self.labels, split)
        if path is None:
            if split == "train":
                raise DataError(f"{self.root}: no label file of train like {self.labels}; give --data.labels")
            return None
        table = read_boxes(path)
        ids = list(dict.fromkeys(table.cell(cells, "path") for _, cells in table.rows))
        folder = self._folder(split)
        listing = list_images(folder)
        files = {image.stem: str(image) for image in listing.files} | {
            image.name: str(image) for image in listing.files
        }
        present = [name for name in ids if name in files]
        if ids and not present:
            raise DataError(f"{path}: none of its {len(ids)} images is in {folder}; give --data.images")
        rows = [(line, cells) for line, cells in table.rows if table.cell(cells, "path") in files]
        absent = {"images of the label file that are not there": len(ids) - len(present)}
        self.note(split, path, {**listing.counts, **absent})
        return box_entries(table, rows, {name: files[name] for name in present}, self.classes, self.names)

    def _folder(self, split: Split) -> Path:
        patterns = [self.images] if self.images is not None else ["{split}/data", "images/{split}", "{split}", "images"]
        found = next((place for each in patterns if (place := find_split(self.root, each, split)) is not None), None)
        if found is None and self.images is not None:
            raise DataError(f"{self.root / self.images}: no such folder; see --data.images")
        return found or self.root


def box_entries(
    table: Table,
    rows: Sequence[tuple[int, list[str]]],
    files: Mapping[str, str],
    classes: Sequence[str],
    names: Mapping[str, str] | None = None,
) -> list[AnnotatedImage]:
    """Rows as entries, one per image.

    Args:
        table: The file.
        rows: Those of the split.
        files: Path of each image by its name in the file.
        classes: Classes in label order.
        names: Class by code, where labels are codes.
    """
    grouped: dict[str, list[tuple[int, list[str]]]] = {name: [] for name in files}
    places: dict[str, str] = {}
    for line, cells in rows:
        code = _label(table, line, cells)
        name = (names or {}).get(code, code)
        if name:
            places.setdefault(name, f"{table.path} line {line}")
            grouped[table.cell(cells, "path")].append((line, [name, *cells]))
    numbers = index_classes(places, classes)
    out = []
    for name, file in files.items():
        objects = grouped[name]
        size = ImageSource(file).size if objects and table.fractions else None
        height, width = size or (1, 1)
        boxes = [_box(table, line, cells[1:]) for line, cells in objects]
        scale = np.array([width, height, width, height], dtype=np.float64)
        # Where the file states widths they are measured as they are: x + w - x loses a bit.
        sides = [] if _has_corners(table) else [_sides(table, line, cells[1:]) for line, cells in objects]
        crowd = [flag(table.cell(cells[1:], "crowd"), f"{table.path} line {line}", "crowd") for line, cells in objects]
        out.append(
            AnnotatedImage(
                file=file,
                place=f"{table.path} line {objects[0][0]}" if objects else f"{table.path} image {name}",
                boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4) * scale,
                labels=np.array([numbers[cells[0]] for _, cells in objects], dtype=np.int64),
                size=size,
                crowd=np.array(crowd, dtype=bool),
                more={} if _has_corners(table) else {"file_xywh": np.array(sides).reshape(-1, 4) * scale},
            )
        )
    return out


def read_boxes(path: Path) -> Table:
    """Reads a csv file of boxes.

    Raises:
        DataError: Empty, or columns that are missing.
    """
    lines = read_csv(path)
    if not lines:
        raise DataError(f"{path}: the file is empty")
    head = [cell.strip().lower().replace(" ", "_") for cell in lines[0][1]]
    if len(head) == len(_BARE) and is_number(head[1]) and is_number(head[4]):
        return Table(path, {what: place for place, what in enumerate(_BARE)}, lines, fractions=False)
    columns = {}
    for what, known in _COLUMNS.items():
        place = next((head.index(name) for name in known if name in head), None)
        if place is not None:
            columns[what] = place
    corners, sides = {"x1", "y1", "x2", "y2"}, ({"x", "y", "w", "h"}, {"x1", "y1", "w", "h"})
    if not {"path", "label"} <= columns.keys() or not any(each <= columns.keys() for each in (corners, *sides)):
        raise DataError(
            f"{path} line 1: the columns are {shorten(lines[0][1])}; a csv of boxes has filename, class and xmin, "
            "ymin, xmax, ymax (or x, y, width, height)"
        )
    return Table(path, columns, lines[1:], fractions=all(name in head for name in _FRACTIONS))


def _label(table: Table, line: int, cells: Sequence[str]) -> str:
    text = table.cell(cells, "label")
    return checked_name(text, f"{table.path} line {line}", "class name") if text.strip() else ""


def _has_corners(table: Table) -> bool:
    return {"x2", "y2"} <= table.columns.keys()


def _box(table: Table, line: int, cells: Sequence[str]) -> list[float]:
    if _has_corners(table):
        return _numbers(table, line, cells, ("x1", "y1", "x2", "y2"))
    x, y, w, h = _sides(table, line, cells)
    return [x, y, x + w, y + h]


def _sides(table: Table, line: int, cells: Sequence[str]) -> list[float]:
    x, y = (what if what in table.columns else f"{what}1" for what in ("x", "y"))
    return _numbers(table, line, cells, (x, y, "w", "h"))


def _numbers(table: Table, line: int, cells: Sequence[str], names: Sequence[str]) -> list[float]:
    return [real_number(table.cell(cells, what), f"{table.path} line {line}", what) for what in names]


def _of_split(table: Table, split: Split, apart: bool) -> list[tuple[int, list[str]]] | None:
    """The rows of a split, by its own file, by the column, or all for training."""
    for line, cells in table.rows:
        if not table.cell(cells, "path").strip():
            raise DataError(f"{table.path} line {line}: it names no image")
    if apart or "split" not in table.columns:
        return table.rows if apart or split == "train" else None
    words = {word: split_of(word) for word in {table.cell(cells, "split") for _, cells in table.rows}}
    unknown = [word for word, meant in words.items() if meant is None]
    if unknown:
        raise DataError(
            f"{table.path}: the column split has {shorten(map(repr, unknown), 3)}; it is train, val or test"
        )
    rows = [(line, cells) for line, cells in table.rows if words[table.cell(cells, "split")] == split]
    return rows or None


def _table(csv: str, split: Split) -> Table | None:
    if "{split}" not in csv:
        return read_boxes(Path(csv))
    folder = Path(csv[: csv.index("{split}")] + "x").parent
    found = find_split(folder, str(Path(csv).relative_to(folder)), split)
    return None if found is None else read_boxes(found)


def _open_images_file(root: Path, labels: str, split: Split) -> Path | None:
    return find_split(root, labels, split)


def _descriptions(root: Path, pattern: str) -> dict[str, str]:
    """Class by code: two columns without a header line, or with one."""
    found = sorted(root.glob(pattern))
    if not found:
        return {}
    rows = [(line, cells) for line, cells in read_csv(found[0]) if len(cells) >= 2]
    named = {cells[0]: checked_name(cells[1], f"{found[0]} line {line}", "class name") for line, cells in rows}
    return {code: name for code, name in named.items() if code.lower() != "labelname"}
