"""Label files: how their values become classes, whatever tool wrote them, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.class_names import shorten
from datamodules.image_store import FileStore, ImageStore, PixelCache, StoredImages
from datamodules.pairing import check_same_size
from datamodules.value_files import gray, read_values
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.names import checked_name
from visionkit.refusals import refuse
from visionkit.text_files import read_lines
from visionkit.types import IGNORE

Color = tuple[int, int, int]
LossyLabels = Literal["refuse", "nearest"]

_VALUES = 1 << 16
_APART = 16  # compression moves values by less than half of this, but at the borders of objects


def read_colors(path: str | Path) -> dict[str, Color]:
    """Reads a table of colors: a line `r g b name` each, separated by blanks, commas or tabs; `#` begins a comment.

    Raises:
        DataError: No such file, a line that is not understood, a color or name that is duplicated.
    """
    colors: dict[str, Color] = {}
    for position, (number, line) in enumerate(read_lines(path, "table of colors")):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = re.match(r"^(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\S.*)$", text)
        color = tuple(int(value) for value in found.groups()[:3]) if found else ()
        if found is None or max(color) > 255:
            if position == 0 and re.match(r"^\D+$", text):
                continue  # a header
            raise DataError(f"{path} line {number}: {text!r} is not 'r g b name' with values of 0 to 255")
        name = checked_name(found.group(4), f"{path} line {number}", "class name")
        if name in colors or color in colors.values():
            raise DataError(f"{path} line {number}: {name} or its color {color} is duplicated")
        colors[name] = color  # type: ignore[assignment]
    if not colors:
        raise DataError(f"{path}: the table of colors is empty")
    return colors


class LabelReader:
    """Label files to class numbers.

    Args:
        classes: Class names in label order.
        ignore: Values of the files that mean nothing, besides 255.
        colors: Color of each class by name, for files in true color; other names there are ignored when they are not
            among the classes.
        values: Value or values in the files of each class by name, where it is not its position among the classes.
        offset: Value of the first class; smaller values mean nothing.
        lossy: `refuse` files whose compression changes values (JPEG), or give each pixel the `nearest` value.

    Raises:
        UsageError: A class without a color or value, or a value that means two things.
    """

    def __init__(
        self,
        classes: Sequence[str],
        ignore: Sequence[int] = (),
        colors: Mapping[str, Color] | None = None,
        values: Mapping[str, int | Sequence[int]] | None = None,
        offset: int = 0,
        lossy: LossyLabels = "refuse",
    ) -> None:
        self.classes, self.ignore, self.lossy = tuple(classes), tuple(ignore), lossy
        self.plain = values is None and offset == 0 and colors is None
        for name in self.classes:
            if (colors is not None and name not in colors) or (values is not None and name not in values):
                raise UsageError(f"data.classes: {name!r} has no color or value in the labels' table")
        self.table = np.full(_VALUES, -1, dtype=np.int16)  # by value; -1 is not allowed
        self.table[:offset] = IGNORE
        for number, name in enumerate(self.classes):
            given = number + offset if values is None else values[name]
            for value in (given,) if isinstance(given, int) else given:
                self._assign(value, number, f"data.values: {name!r}")
        for value in self.ignore if values is not None else (value for value in self.ignore if value != IGNORE):
            self._assign(value, IGNORE, "data.ignore:")
        if values is None or self.table[IGNORE] < 0:
            self.table[IGNORE] = IGNORE
        for name in values or ():
            if name not in self.classes:
                raise UsageError(f"data.values: {name!r} is not among data.classes{suggest(name, self.classes)}")
        self._colors: tuple[np.ndarray, np.ndarray] | None = None
        if colors is not None:
            codes = {r << 16 | g << 8 | b: name for name, (r, g, b) in colors.items()}
            order = np.array(sorted(codes), dtype=np.int64)
            known = {name: number for number, name in enumerate(self.classes)}
            self._colors = order, np.array([known.get(codes[int(code)], IGNORE) for code in order], dtype=np.int64)

    def _assign(self, value: int, label: int, place: str) -> None:
        if not 0 <= value < _VALUES:
            raise UsageError(f"{place} {value} is no value of a label file, which are 0 to {_VALUES - 1}")
        known = int(self.table[value])
        if known not in (-1, label) and known < len(self.classes):
            raise UsageError(f"{place} {value} is the value of class {self.classes[known]!r}")
        self.table[value] = label

    def read(self, path: str | Path) -> np.ndarray:
        """The classes of every pixel.

        Args:
            path: An indexed, gray or 16-bit file of values, or a file in the table's colors.

        Returns:
            (h, w) uint8, 255 where ignored; int64 with more than 255 classes.

        Raises:
            DataError: Not readable, a value that is no class, a color that is not in the table, a lossy file.
        """
        values, lossy = read_values(path)
        values = values if self._colors is not None else gray(values, lossy)
        if lossy:
            self._check_lossy(values, path, lossy)
        if values.ndim == 3:
            labels = self._from_colors(values, path)
        elif self._colors is not None:
            raise DataError(f"{path}: holds numbers, not colors; leave data.colors out or give the colored files")
        else:
            labels = self._from_numbers(whole_values(values, path), path, lossy)
        return labels.astype(np.uint8) if len(self.classes) <= IGNORE else labels.astype(np.int64)

    def _check_lossy(self, values: np.ndarray, path: str | Path, lossy: str) -> None:
        if self.lossy != "nearest":
            raise DataError(
                f"{path}: a label file in {lossy}, whose compression changes the values; give the png files it was "
                "made of, or take the nearest value of each pixel with --data.lossy_labels nearest"
            )
        known = np.flatnonzero(self.table >= 0)
        near = np.diff(known).min(initial=_APART) < _APART
        if values.ndim == 3 or near:
            why = "colors" if values.ndim == 3 else f"values as near to each other as {shorten(map(str, known), 4)}"
            raise DataError(f"{path}: {why} cannot be distinguished in {lossy}; give the png files it was made of")

    def _from_numbers(self, values: np.ndarray, path: str | Path, lossy: str) -> np.ndarray:
        if lossy:
            known = np.flatnonzero(self.table >= 0)
            middle = (known[1:] + known[:-1]) / 2
            values = known[np.searchsorted(middle, values)]
        labels: np.ndarray = self.table[values]
        if labels.min() < 0:
            wrong = np.unique(values[labels < 0])
            y, x = np.argwhere(labels < 0)[0]
            error = (
                f"{path}: value {', '.join(map(str, wrong[:5]))} (first at row {y}, column {x}) is no class; there "
                f"are {len(self.classes)} ({shorten(self.classes, 4)}), {self._allowed()}; {self._advice(values)}"
            )
            refuse("stray-value", DataError(error))
            labels = np.where(labels < 0, IGNORE, labels)
        return labels

    def _allowed(self) -> str:
        known = np.flatnonzero((self.table >= 0) & (self.table < len(self.classes)))
        if len(known) == known[-1] - known[0] + 1:
            return f"values {known[0]} to {known[-1]}"
        return f"values {shorten(map(str, known), 6)}"

    def _advice(self, values: np.ndarray) -> str:
        """What to do about a file with values that are no class."""
        found = [int(value) for value in np.unique(values)]
        labels = [value for value in found if value != IGNORE]
        advice = "name what means nothing in data.ignore"
        if self.plain and len(self.classes) == 1:
            return f"name what the other values are too, such as --data.classes '[background, {self.classes[0]}]'"
        if self.plain and labels[-1] == len(self.classes):
            return f"if the labels start at 1, set --data.label_offset 1; else {advice}"
        if len(found) <= len(self.classes):
            pairs = ", ".join(f"{name}: {value}" for name, value in zip(self.classes, found, strict=False))
            return f"if they are classes, state which, such as --data.values '{{{pairs}}}'; else {advice}"
        return f"state which value is which class with --data.values '{{NAME: VALUE, ...}}', or {advice}"

    def _from_colors(self, pixels: np.ndarray, path: str | Path) -> np.ndarray:
        if self._colors is None:
            raise DataError(f"{path}: is in color; give the table of its colors with data.colors")
        codes, numbers = self._colors
        wide = pixels[..., :3].astype(np.int64)
        code = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        wrong = codes[place] != code
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            r, g, b = (int(v) for v in pixels[y, x, :3])
            error = (
                f"{path}: color {r} {g} {b} at row {y}, column {x} is not in the table of {len(codes)} colors "
                f"({int(wrong.sum())} such pixels)"
            )
            refuse("stray-value", DataError(error))
        out: np.ndarray = np.where(wrong, IGNORE, numbers[place])
        return out


def whole_values(values: np.ndarray, path: str | Path) -> np.ndarray:
    """Numbers of a label file as whole ones.

    Raises:
        DataError: Fractions, negative numbers or numbers beyond 16 bits.
    """
    if values.dtype.kind == "f":
        if not (values == np.rint(values)).all():
            raise DataError(f"{path}: the values are fractions; a label file has whole numbers")
        values = values.astype(np.int64)
    if values.min() < 0 or values.max() >= _VALUES:
        raise DataError(f"{path}: values from {values.min()} to {values.max()}; allowed are 0 to {_VALUES - 1}")
    return values


class LabelStore(FileStore):
    """Label files as decoded one-channel sources, so that the cache of images keeps them too.

    Args:
        paths: Paths of the label files.
        reader: Turns them into classes.
    """

    def __init__(self, paths: Sequence[str], reader: LabelReader) -> None:
        super().__init__(Path(), paths)
        self.reader = reader

    def source(self, number: int) -> ImageSource:
        """The classes as an array."""
        return ImageSource(self.reader.read(self.name(number)), self.name(number))


class LabeledMaps(StoredImages[ImageStore]):
    """Samples of a segmentation set; labels are read with their image.

    Args:
        store: The images.
        labels: Their label files, in the same order.
        rows: Indices of those that belong here.
        cache: Cache of images, or None.
        label_cache: Cache of labels, or None.
        weigh: Labels (h, w) to the weight of every pixel, or None.
    """

    def __init__(
        self,
        store: ImageStore,
        labels: LabelStore,
        rows: np.ndarray,
        cache: PixelCache | None = None,
        label_cache: PixelCache | None = None,
        weigh: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        super().__init__(store, rows, cache)
        self.labels, self.label_cache, self.weigh = labels, label_cache, weigh

    def target(self, index: int, image: ImageSource) -> Any:
        """Its label map, and the weight of every pixel."""
        number = int(self.rows[index])
        if self.label_cache is None:
            labels = self.labels.reader.read(self.labels.name(number))
        else:
            labels = self.label_cache.source(self.labels, number, range(len(self))[index]).read(1)[:, :, 0]
        if labels.shape != image.size:
            check_same_size(self.store.source(number), labels.shape, self.labels.name(number), "label map")
        target: dict[str, Any] = {"label_map": labels}
        if self.weigh is not None:
            target["pixel_weight"] = self.weigh(labels)
        return target
