"""Pascal VOC: one xml file per image in `Annotations`, images in `JPEGImages`, splits in `ImageSets/Main`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import index_classes
from datamodules.object_entries import AnnotatedImage, known_scores
from datamodules.objects import ObjectData
from datamodules.splits import SPLITS
from datamodules.voc_places import Annotated, VocPlaces
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.names import checked_name
from visionkit.refusals import refuse
from visionkit.text_files import flag, read_bytes, real_number


class VocData(ObjectData):
    """Boxes in Pascal VOC's layout.

    Its coordinates count pixels from 1 and include the last one, so 1 to 640 is the whole of an image 640 wide and
    becomes 0 to 640 here. Difficult objects are not counted by the metric and not used for training.

    Args:
        root: Folder that holds `Annotations` and `JPEGImages`; or `train`, `val` and `test`, each with xml files beside
            its images; or both together in one folder.
        train: Name of the list of training images in `ImageSets/Main`, without its ending.
        val: Name of the list of validation images; where the file is absent, `val_fraction` of the training images.
        test: Name of the list of test images; where it is absent, `test_fraction`.
        annotations: Folder of the xml files below `root`, which may have `{split}` in it; `Annotations` in any case, or
            beside the images, by default.
        images: Folder of the images, in the same way; `JPEGImages` or `images` in any case by default.
        **base: See `datamodules.objects.ObjectData`; VOC has boxes alone.

    Example:
        >>> VocData.discover_classes(root="VOCdevkit/VOC2007")[:2]
        ['aeroplane', 'bicycle']
    """

    def __init__(
        self,
        root: str,
        *,
        train: str = "train",
        val: str = "val",
        test: str = "test",
        annotations: str | None = None,
        images: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if self.target != "boxes":
            raise UsageError("data.target masks: VOC's xml has boxes alone; use CocoData, YoloData or InstanceMapData")
        self.root = Path(root)
        self.places = VocPlaces(self.root, {"train": train, "val": val, "test": test}, annotations, images)
        self.classes = self.classes or tuple(
            self.discover_classes(root, train=train, val=val, test=test, annotations=annotations, images=images)
        )

    @classmethod
    def discover_classes(
        cls,
        root: str = "",
        train: str = "train",
        val: str = "val",
        test: str = "test",
        annotations: str | None = None,
        images: str | None = None,
        **init_args: Any,
    ) -> list[str]:
        """The names in the training files, or in those of another split where there are none, in alphabetical order."""
        places = VocPlaces(Path(root), {"train": train, "val": val, "test": test}, annotations, images)
        found = next((annotated for split in SPLITS if (annotated := places.annotated(split)) is not None), None)
        parsed = [each for path in (found.xml if found else ()) if (each := _parsed(path)) is not None]
        return sorted({name for each in parsed for name in each.names})

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        found = self.places.annotated(split)
        if found is None:
            return None
        parsed = [each for path in found.xml if (each := _parsed(path)) is not None]
        numbers = index_classes(
            {name: f"{each.path} object {k + 1}" for each in reversed(parsed) for k, name in enumerate(each.names)},
            self.classes,
        )
        entries = [self._entry(found, each, numbers) for each in parsed]
        self.note(split, found.source, found.passed_over(entry.file for entry in entries))
        return entries

    def _entry(self, found: Annotated, parsed: VocImage, numbers: dict[str, int]) -> AnnotatedImage:
        return AnnotatedImage(
            file=str(found.image(parsed.path, parsed.filename)),
            place=str(parsed.path),
            boxes=parsed.boxes,
            labels=np.array([numbers[label] for label in parsed.names], dtype=np.int64),
            size=parsed.size,
            crowd=parsed.difficult,
            scores=parsed.scores,
        )


class VocImage(NamedTuple):
    """One parsed xml file.

    Attributes:
        path: Path of the xml file.
        filename: Filename of the image as the file names it, or empty.
        size: Height and width, or None where the file does not state or states 0.
        names: N class names.
        boxes: (N, 4) float64 x1, y1, x2, y2 in file pixels, x2 and y2 exclusive.
        difficult: (N,) bool.
        scores: (N,) float64 of predictions, see `datamodules.object_entries.AnnotatedImage`.
    """

    path: Path
    filename: str
    size: tuple[int, int] | None
    names: list[str]
    boxes: np.ndarray
    difficult: np.ndarray
    scores: np.ndarray | None = None


def parse_xml(path: Path, limit: int = 1 << 26) -> Any:
    """The top element of an xml file; entities and other doors of xml stay shut.

    Args:
        path: The file.
        limit: Largest size in bytes.

    Raises:
        DataError: Missing, too large, or no xml.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    data = read_bytes(path, limit, "annotation")
    try:
        return fromstring(data, forbid_dtd=False)
    except DefusedXmlException as error:
        raise DataError(f"{path}: refused, it declares {type(error).__name__}") from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{path}: not readable as xml ({' '.join(str(error).split())[:120]})") from None


def parse_voc(path: Path, top: Any = None) -> VocImage:
    """Reads one xml file.

    Args:
        path: The file.
        top: Its top element, where it was parsed already.

    Raises:
        DataError: See `parse_xml`; an object without a name or a box. Names file and object.
    """
    top = parse_xml(path) if top is None else top
    names: list[str] = []
    boxes: list[list[float]] = []
    difficult: list[bool] = []
    given: list[str | None] = []
    for number, each in enumerate(top.findall("object"), start=1):
        place = f"{path} object {number}"
        try:
            if not (each.findtext("name") or "").strip():
                raise DataError(f"{place}: it has no name")
            name = checked_name(each.findtext("name"), place, "class name")
            corners = [_number(each.findtext(f"bndbox/{key}"), f"{place} ({name})", key) for key in _CORNERS]
            is_difficult = flag((each.findtext("difficult") or "0").strip(), place, "difficult")
        except DataError as error:
            refuse("broken-label", error)
            continue
        names.append(name)
        # A box without extent is a slip of the annotator, not a pixel: it stays empty.
        first = [corners[k] - (corners[k + 2] > corners[k]) for k in range(2)]
        boxes.append([*first, corners[2], corners[3]])
        difficult.append(is_difficult)
        given.append(each.findtext("score"))
    sides = [_number(side, str(path), "size") for side in map(top.findtext, ("size/height", "size/width")) if side]
    stated = (int(sides[0]), int(sides[1])) if len(sides) == 2 and min(sides) >= 1 else None
    filename = (top.findtext("filename") or "").strip()
    corner_rows = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    scores = known_scores(given)
    return VocImage(path, filename, stated, names, corner_rows, np.array(difficult, dtype=bool), scores)


def _parsed(path: Path) -> VocImage | None:
    """One file; None where data is examined and it cannot be read."""
    try:
        return parse_voc(path)
    except DataError as error:
        refuse("broken-label", error)
        return None


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _number(text: str | None, place: str, what: str) -> float:
    if text is None:
        raise DataError(f"{place}: {what} is missing; a box has {', '.join(_CORNERS)}")
    return real_number(text.strip(), place, what)
