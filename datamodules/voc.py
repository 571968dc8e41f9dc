"""Pascal VOC: one xml file a picture in `Annotations`, pictures in `JPEGImages`, splits in `ImageSets/Main`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes
from datamodules.objects import Entry, ObjectData
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.listing import SUFFIXES


class VocData(ObjectData):
    """Boxes in Pascal VOC's layout.

    Its coordinates count pixels from 1 and include the last one, so 1 to 640 is the whole of a picture 640 wide and
    becomes 0 to 640 here. Difficult objects are not counted by the metric and not learnt from.

    Args:
        root: Folder that holds `Annotations` and `JPEGImages`.
        train: Name of the list of training pictures in `ImageSets/Main`, without its ending.
        val: Of validation; where the file is absent, `val_fraction` of the training pictures.
        test: Of testing; where it is absent, `test_fraction`.
        **base: See `datamodules.objects.ObjectData`; VOC has boxes alone.

    Example:
        >>> VocData.discover_classes(root="VOCdevkit/VOC2007")[:2]
        ['aeroplane', 'bicycle']
    """

    def __init__(self, root: str, *, train: str = "train", val: str = "val", test: str = "test", **base: Any) -> None:
        super().__init__(**base)
        if self.target != "boxes":
            raise UsageError("data.target masks: VOC's xml has boxes alone; use CocoData, YoloData or InstanceMapData")
        self.root, self.lists = Path(root), {"train": train, "val": val, "test": test}
        self.classes = self.classes or tuple(self.discover_classes(root, train=train))

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def discover_classes(cls, root: str = "", train: str = "train", **init_args: Any) -> list[str]:
        """The names in the training files, in alphabetical order."""
        folder = _existing(Path(root))
        names = _listed(folder, train)
        parsed = [parse_voc(folder / "Annotations" / f"{name}.xml") for name in names or _all(folder)]
        return sorted({name for picture in parsed for name in picture.names})

    def read(self, split: Split) -> list[Entry] | None:
        folder = _existing(self.root)
        names = _listed(folder, self.lists[split])
        if names is None:
            if split != "train":
                return None
            names = _all(folder)
        parsed = [parse_voc(folder / "Annotations" / f"{name}.xml") for name in names]
        numbers = index_classes(
            {name: f"{each.path} object {k + 1}" for each in reversed(parsed) for k, name in enumerate(each.names)},
            self.classes,
        )
        return [
            Entry(
                file=str(_picture(folder, name, each)),
                place=str(each.path),
                boxes=each.boxes,
                labels=np.array([numbers[label] for label in each.names], dtype=np.int64),
                size=each.size,
                crowd=each.difficult,
            )
            for name, each in zip(names, parsed, strict=True)
        ]


class VocPicture:
    """One parsed xml file.

    Attributes:
        path: Of the xml file.
        filename: Of the picture as the file names it, or empty.
        size: Height and width, or None where the file does not say or says 0.
        names: N class names.
        boxes: (N, 4) float64 x1, y1, x2, y2 in file pixels, x2 and y2 exclusive.
        difficult: (N,) bool.
    """

    def __init__(
        self,
        path: Path,
        filename: str,
        size: tuple[int, int] | None,
        names: list[str],
        boxes: np.ndarray,
        difficult: np.ndarray,
    ) -> None:
        self.path, self.filename, self.size = path, filename, size
        self.names, self.boxes, self.difficult = names, boxes, difficult


def parse_voc(path: Path) -> VocPicture:
    """Reads one xml file; entities and other doors of xml stay shut.

    Raises:
        DataError: Missing, no xml, or an object without a name or a box; names file and object.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        top = parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation, though the list of pictures names it") from None
    except DefusedXmlException as error:
        raise DataError(f"{path}: refused, it declares {type(error).__name__}; annotations need no entities") from None
    except (ParseError, OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not readable as xml ({error})") from None
    names: list[str] = []
    boxes: list[list[float]] = []
    difficult: list[bool] = []
    for number, each in enumerate(top.findall("object"), start=1):
        place = f"{path} object {number}"
        name = (each.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{place}: it has no name")
        corners = [_number(each.findtext(f"bndbox/{key}"), f"{place} ({name}): {key}") for key in _CORNERS]
        names.append(name)
        # A box without extent is a slip of the annotator, not a pixel: it stays empty.
        first = [corners[k] - (corners[k + 2] > corners[k]) for k in range(2)]
        boxes.append([*first, corners[2], corners[3]])
        difficult.append((each.findtext("difficult") or "0").strip() == "1")
    sides = [top.findtext(f"size/{key}") for key in ("height", "width")]
    size = [int(_number(side, f"{path}: size")) for side in sides if side is not None]
    stated = (size[0], size[1]) if len(size) == 2 and min(size) > 0 else None
    filename = (top.findtext("filename") or "").strip()
    return VocPicture(
        path, filename, stated, names, np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(difficult, dtype=bool)
    )


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _number(text: str | None, what: str) -> float:
    if text is None:
        raise DataError(f"{what} is missing; a box has {', '.join(_CORNERS)}")
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{what} is {text.strip()!r}, which is no number") from None


def _existing(folder: Path) -> Path:
    if not str(folder) or not (folder / "Annotations").is_dir():
        raise DataError(f"{folder}: no folder Annotations there; give --data.root the folder that holds it")
    return folder


def _listed(folder: Path, name: str) -> list[str] | None:
    """The picture names of one list; the first column, since lists of a class have a second."""
    path = folder / "ImageSets" / "Main" / f"{name}.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = sorted(each.stem for each in path.parent.glob("*.txt"))
        if name not in ("train", "val", "test"):
            raise DataError(f"{path}: no such list; there are {', '.join(there)}{suggest(name, there)}") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    twice = (
        next((each for k, each in enumerate(names) if each in set(names[:k])), None)
        if len(set(names)) < len(names)
        else None
    )
    if twice is not None:
        raise DataError(f"{path}: {twice!r} stands there twice")
    return names


def _all(folder: Path) -> list[str]:
    names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
    if not names:
        raise DataError(f"{folder}: no xml files in Annotations")
    return names


def _picture(folder: Path, name: str, parsed: VocPicture) -> Path:
    pictures = folder / "JPEGImages"
    for candidate in (f"{name}.jpg", parsed.filename):
        if candidate and (pictures / candidate).is_file():
            return pictures / candidate
    found = next((path for path in pictures.glob(f"{name}.*") if path.suffix.lower() in SUFFIXES), None)
    return found or pictures / f"{name}.jpg"
