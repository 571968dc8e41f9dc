"""YOLO txt: one file a picture, one line an object, `class cx cy w h` or `class x1 y1 x2 y2 ...`, in fractions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.objects import Entry, ObjectData, Segment
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES

log = logging.getLogger(__name__)


class YoloData(ObjectData):
    """Boxes and polygons in YOLO's layout, described by its yaml file.

    The yaml holds `path`, `train`, `val`, `test` (folders of pictures, or txt files that list them) and `names`. The
    labels of `images/a.jpg` are in `labels/a.txt`; a picture without such a file has no objects.

    Args:
        yaml: The file; relative paths in it are below its `path`, which is below its own folder.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are its `names`; given, they must be those, in
            that order, since the labels are numbers.

    Example:
        >>> YoloData.discover_classes(yaml="cells/data.yaml")
        ['Platelets', 'RBC', 'WBC']
    """

    def __init__(self, yaml: str, **base: Any) -> None:
        super().__init__(**base)
        self.yaml = Path(yaml)
        names = tuple(self.discover_classes(yaml))
        self.classes = self.classes or names
        if self.classes != names:
            wrong = next((name for name in self.classes if name not in names), None)
            detail = f"{wrong!r} is not among them{suggest(wrong, names)}" if wrong else "the order differs"
            raise DataError(f"{self.yaml}: its names are {shorten(names)}; data.classes must be the same: {detail}")

    @property
    def source(self) -> str:
        return str(self.yaml)

    @classmethod
    def discover_classes(cls, yaml: str = "", **init_args: Any) -> list[str]:
        """The `names` of the yaml file."""
        return _names(_described(Path(yaml)), Path(yaml))

    def read(self, split: Split) -> list[Entry] | None:
        described = _described(self.yaml)
        given = described.get(split)
        if given is None:
            if split == "train":
                raise DataError(f"{self.yaml}: it has no key 'train'{suggest('train', described)}")
            return None
        base = self.yaml.parent / str(described.get("path") or "")
        places = [base / str(each) for each in (given if isinstance(given, list) else [given])]
        pictures = [path for place in places for path in _pictures(place)]
        if not pictures:
            raise DataError(f"{self.yaml}: {split}: no pictures in {shorten(map(str, places), 3)}")
        entries = [yolo_entry(path, len(self.classes)) for path in pictures]
        if not any(label_file(path).is_file() for path in pictures):
            raise DataError(
                f"{self.yaml}: {split}: none of {len(pictures)} pictures has labels; those of {pictures[0]} "
                f"are looked for in {label_file(pictures[0])}"
            )
        alone = [path for place in places if place.is_dir() for path in _without_picture(place, pictures)]
        if alone:
            log.warning(
                "%s: %s: label files without a picture are left out: %d (%s)",
                self.yaml,
                split,
                len(alone),
                shorten(map(str, alone), 3),
            )
        return entries


class Row(NamedTuple):
    """One line of a label file, in fractions of the picture.

    Attributes:
        label: 0-based number of the class.
        box: x1, y1, x2, y2.
        polygon: x1, y1, x2, y2, ..., or None where the line has a box alone.
    """

    label: int
    box: tuple[float, float, float, float]
    polygon: list[float] | None


def yolo_entry(picture: Path, classes: int) -> Entry:
    """One picture with its label file; the picture's header is read, since the labels are fractions of it.

    Raises:
        DataError: A line with a wrong number of columns, no numbers, or a class that is not there; names file and line.
    """
    path = label_file(picture)
    rows = list(yolo_rows(path, classes))
    size = ImageSource(picture).size if rows else None
    height, width = size or (1, 1)
    scale = np.array([width, height, width, height], dtype=np.float64)
    segments: list[Segment] = []
    for row in rows:
        if row.polygon is None:
            segments.append(None)
        else:
            points = np.array(row.polygon).reshape(-1, 2) * (width, height)
            segments.append([points.ravel().tolist()])
    return Entry(
        file=str(picture),
        place=str(path),
        boxes=np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4) * scale,
        labels=np.array([row.label for row in rows], dtype=np.int64),
        size=size,
        segments=segments,
    )


def yolo_rows(path: Path, classes: int) -> Iterator[Row]:
    """The lines of a label file; none where there is no file.

    Args:
        path: The txt file.
        classes: Number of classes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        place = f"{path} line {number}"
        if len(cells) != 5 and (len(cells) < 7 or len(cells) % 2 == 0):
            raise DataError(
                f"{place}: {len(cells)} columns; a box has 5 (class cx cy w h), a polygon 7, 9, 11, ... "
                "(class x1 y1 x2 y2 x3 y3 ...)"
            )
        try:
            label, values = int(cells[0]), [float(cell) for cell in cells[1:]]
        except ValueError:
            raise DataError(f"{place}: {shorten(cells, 6)}: a whole number and then numbers are allowed") from None
        if not 0 <= label < classes:
            raise DataError(f"{place}: class {label}; there are {classes}, numbered from 0")
        if not all(-0.5 <= value <= 1.5 for value in values):  # a NaN is in no range
            raise DataError(f"{place}: {shorten(cells[1:], 6)}: coordinates are fractions of the picture, from 0 to 1")
        if len(values) == 4:
            x, y, w, h = values
            yield Row(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), None)
        else:
            yield Row(label, (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), values)


def label_file(picture: Path) -> Path:
    """Where the labels of a picture are: the last folder `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    for number in reversed(range(len(parts) - 1)):
        if parts[number] == "images":
            parts[number] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _described(path: Path) -> dict[str, Any]:
    import yaml

    try:
        top = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such yaml file; give --data.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path}: no valid yaml ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(top, dict):
        raise DataError(f"{path}: a YOLO data set is described by keys train, val and names")
    return top


def _names(described: dict[str, Any], path: Path) -> list[str]:
    names = described.get("names")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: names are numbered 0, 1, 2, ... without gaps, not {shorten(map(str, names))}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: it has no list 'names'{suggest('names', map(str, described))}")
    return [str(name) for name in names]


def _without_picture(folder: Path, pictures: Sequence[Path]) -> list[Path]:
    """Label files for pictures below a folder that are not there."""
    known = {label_file(path) for path in pictures}
    labels = label_file(folder / "any.jpg").parent
    # Where labels lie beside the pictures, other text does too; elsewhere programs leave the list of names there.
    apart = labels != folder
    return sorted(p for p in labels.rglob("*.txt") if apart and p not in known and p.name != "classes.txt")


def _pictures(place: Path) -> list[Path]:
    if place.suffix == ".txt":
        try:
            lines = place.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror})") from None
        return [place.parent / line.strip() for line in lines if line.strip()]
    if not place.is_dir():
        raise DataError(f"{place}: no such folder of pictures")
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
