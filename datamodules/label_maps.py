"""Label pngs: how their values become classes, whatever tool wrote them, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from datamodules.pictures import PictureStore, PixelCache
from visionkit.errors import DataError, UsageError
from visionkit.images import FORMATS, MAX_PIXELS, ImageSource
from visionkit.types import IGNORE, Sample

Colour = tuple[int, int, int]


def read_colours(path: str | Path) -> dict[str, Colour]:
    """Reads a table of colours: a line `r g b name` each, separated by blanks, commas or tabs; `#` begins a comment.

    Raises:
        DataError: No such file, a line that is not understood, a colour or name that stands there twice.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a table of colours ({error})") from error
    colours: dict[str, Colour] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = re.match(r"^(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\S.*)$", text)
        colour = tuple(int(value) for value in found.groups()[:3]) if found else ()
        if found is None or max(colour) > 255:
            if number == 1 and re.match(r"^\D+$", text):
                continue  # a header
            raise DataError(f"{path} line {number}: {text!r} is not 'r g b name' with values of 0 to 255")
        name = found.group(4).strip()
        if name in colours or colour in colours.values():
            raise DataError(f"{path} line {number}: {name} or its colour {colour} stands there twice")
        colours[name] = colour  # type: ignore[assignment]
    if not colours:
        raise DataError(f"{path}: the table of colours is empty")
    return colours


class LabelReader:
    """Label files to class numbers.

    Args:
        classes: Class names in label order.
        ignore: Values of the files that mean nothing, besides 255.
        colours: Colour of each class by name, for files in true colour; other names there are ignored when they are not
            among the classes.
        values: Value in the files of each class by name, where it is not its place among the classes.

    Raises:
        UsageError: A class without a colour or value.
    """

    def __init__(
        self,
        classes: Sequence[str],
        ignore: Sequence[int] = (),
        colours: Mapping[str, Colour] | None = None,
        values: Mapping[str, int] | None = None,
    ) -> None:
        self.classes, self.ignore = tuple(classes), tuple(ignore)
        for name in self.classes:
            if (colours is not None and name not in colours) or (values is not None and name not in values):
                raise UsageError(f"data.classes: {name!r} has no colour or value in the labels' table")
        self.table = np.full(1 << 16, -1, dtype=np.int16)  # by value; -1 is not allowed
        for number, name in enumerate(self.classes):
            self.table[number if values is None else values[name]] = number
        for value in (*self.ignore, IGNORE):
            if not 0 <= value < len(self.table):
                raise UsageError(
                    f"data.ignore: {value} is no value of a label file, which are 0 to {len(self.table) - 1}"
                )
            if self.table[value] >= 0 and value != IGNORE:
                raise UsageError(f"data.ignore: {value} is the value of class {self.classes[self.table[value]]!r}")
            self.table[value] = IGNORE
        self._colours: tuple[np.ndarray, np.ndarray] | None = None
        if colours is not None:
            codes = {r << 16 | g << 8 | b: name for name, (r, g, b) in colours.items()}
            order = np.array(sorted(codes), dtype=np.int64)
            known = {name: number for number, name in enumerate(self.classes)}
            self._colours = order, np.array([known.get(codes[int(code)], IGNORE) for code in order], dtype=np.int64)

    def read(self, path: str | Path) -> np.ndarray:
        """The classes of every pixel.

        Args:
            path: An indexed, grey or 16-bit file of values, or a file in the table's colours.

        Returns:
            (h, w) uint8, 255 where ignored; int64 with more than 255 classes.

        Raises:
            DataError: Not readable, a value that is no class, a colour that is not in the table.
        """
        values = _decode(path)
        if values.ndim == 3:
            labels = self._from_colours(values, path)
        elif self._colours is not None:
            raise DataError(f"{path}: holds numbers, not colours; leave data.colours out or give the coloured files")
        else:
            labels = self.table[values]
            if labels.min() < 0:
                wrong = np.unique(values[labels < 0])
                y, x = np.argwhere(labels < 0)[0]
                raise DataError(
                    f"{path}: value {', '.join(map(str, wrong[:5]))} (first at row {y}, column {x}) is no class; there "
                    f"are {len(self.classes)} ({shorten(self.classes, 4)}), values 0 to {len(self.classes) - 1}; name "
                    "what means nothing in data.ignore"
                )
        return labels.astype(np.uint8) if len(self.classes) <= IGNORE else labels.astype(np.int64)

    def _from_colours(self, pixels: np.ndarray, path: str | Path) -> np.ndarray:
        if self._colours is None:
            raise DataError(f"{path}: is in colour; give the table of its colours with data.colours")
        codes, numbers = self._colours
        wide = pixels[..., :3].astype(np.int64)
        code = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        place = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        wrong = codes[place] != code
        if wrong.any():
            y, x = np.argwhere(wrong)[0]
            r, g, b = (int(v) for v in pixels[y, x, :3])
            raise DataError(
                f"{path}: colour {r} {g} {b} at row {y}, column {x} is not in the table of {len(codes)} colours "
                f"({int(wrong.sum())} such pixels)"
            )
        out: np.ndarray = numbers[place]
        return out


def _decode(path: str | Path) -> np.ndarray:
    """Pixels as the file states them: (h, w) indices, greys or 16 bit, (h, w, 3) colours. No rotation, no palette."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as file:
            image: Image.Image = file
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: {image.width} x {image.height} pixels are over the limit of {MAX_PIXELS}")
            if image.mode == "1":
                image = image.convert("L").point(lambda value: value // 255)
            if image.mode not in ("P", "L", "I;16", "I;16B", "I", "RGB", "RGBA"):
                raise DataError(f"{path}: a label file has numbers or colours, not mode {image.mode}")
            values = np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such label file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture (readable are {', '.join(FORMATS)})") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the label file is truncated or damaged ({error})") from error
    if values.ndim == 2 and values.dtype.kind == "i" and (values.min() < 0 or values.max() >= 1 << 16):
        raise DataError(f"{path}: values from {values.min()} to {values.max()}; allowed are 0 to 65535")
    return values


class LabelStore:
    """Label files as decoded one-channel sources, so that the cache of pictures keeps them too.

    Args:
        paths: Of the label files.
        reader: Turns them into classes.
    """

    def __init__(self, paths: Sequence[str], reader: LabelReader) -> None:
        self.paths, self.reader = np.array([str(path).encode() for path in paths], dtype=np.bytes_), reader

    def __len__(self) -> int:
        return len(self.paths)

    def source(self, number: int) -> ImageSource:
        """The classes as an array."""
        return ImageSource(self.reader.read(self.name(number)), self.name(number))

    def name(self, number: int) -> str:
        """Its path."""
        return bytes(self.paths[number]).decode()


class LabelledMaps(Sequence[Sample]):
    """Samples of a segmentation set; labels are read with their picture.

    Args:
        pictures: The pictures.
        labels: Their label files, in the same order.
        rows: Which of them belong here.
        cache: Of pictures, or None.
        label_cache: Of labels, or None.
        weigh: Labels (h, w) to the weight of every pixel, or None.
    """

    def __init__(
        self,
        pictures: PictureStore,
        labels: LabelStore,
        rows: np.ndarray,
        cache: PixelCache | None = None,
        label_cache: PixelCache | None = None,
        weigh: Any = None,
    ) -> None:
        self.pictures, self.labels, self.rows = pictures, labels, rows
        self.cache, self.label_cache, self.weigh = cache, label_cache, weigh

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        number = int(self.rows[place])
        image = self.pictures.source(number) if self.cache is None else self.cache.source(self.pictures, number, place)
        known = (
            self.labels.source(number)
            if self.label_cache is None
            else self.label_cache.source(self.labels, number, place)
        )
        labels = known.read(1)[:, :, 0] if self.label_cache is not None else self.labels.reader.read(known.name)
        if labels.shape != image.size:
            raise DataError(
                f"{known.name}: labels of {labels.shape[1]} x {labels.shape[0]} pixels do not fit the picture "
                f"{image.name} of {image.size[1]} x {image.size[0]}"
            )
        target: dict[str, Any] = {"label_map": labels}
        if self.weigh is not None:
            target["pixel_weight"] = self.weigh(labels)
        return Sample(image, target, image.name)  # type: ignore[arg-type]
