"""The layout of OTB, the object tracking benchmark: `<sequence>/img/0001.jpg` and `<sequence>/groundtruth_rect.txt`.

A line of text is `left,top,width,height`, one per frame, separated by commas, tabs or blanks; positions count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionkit.errors import DataError
from visionkit.listing import list_images
from visionkit.text_files import is_number, object_at, read_json, read_lines, shown

IMAGES = "img"
"""Folder of the images of a sequence."""

STARTS = {"BlurCar1": 247, "BlurCar3": 3, "BlurCar4": 18, "David": 300}
"""Number of the image that the first line of the ground truth belongs to, where that is not the first image."""

_TRUTH = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")


@dataclass(frozen=True)
class OtbSequence:
    """A sequence with one object.

    Attributes:
        name: Name of the folder; with `.1`, `.2` where it has several objects.
        truth: The file of its boxes.
        images: The images that have a line there, in order.
        boxes: (N, 4) left, top, width, height as the file has them, from 1.
    """

    name: str
    truth: Path
    images: tuple[Path, ...]
    boxes: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """(N, 4) x1, y1, x2, y2 in file pixels, from 0."""
        corner = self.boxes[:, :2] - 1
        return np.concatenate([corner, corner + self.boxes[:, 2:]], axis=1)


def read_boxes(path: str | Path) -> np.ndarray:
    """(N, 4) left, top, width, height of each frame as a file has them.

    Args:
        path: Text, or json of results as the benchmark stores them (a list of one object with `res`). Numbers that are
            not finite stand for a frame without a box.

    Raises:
        DataError: It cannot be read, with the line.
    """
    path = Path(path)
    if path.suffix == ".json":
        return _results(path)
    rows = []
    for number, line in read_lines(path, "file of boxes"):
        cells = [cell for cell in re.split(r"[,;\s]+", line) if cell]
        if len(cells) != 4 or not all(map(is_number, cells)):
            raise DataError(f"{path} line {number}: {line[:60]!r} is not left,top,width,height as OTB's files have")
        rows.append([float(cell) for cell in cells])
    if not rows:
        raise DataError(f"{path}: no boxes in it")
    return np.array(rows, np.float64)


def box_line(box: np.ndarray, origin: int = 1) -> str:
    """A line of text, `left,top,width,height` to a hundredth of a pixel.

    Args:
        box: x1, y1, x2, y2 in file pixels.
        origin: Number of the first row and column: 1 in files of OTB.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    values = (x1 + origin, y1 + origin, x2 - x1, y2 - y1)
    return ",".join(f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".") for value in values)  # + 0.0: no "-0"


def truth_files(folder: Path) -> dict[str, Path]:
    """Files of ground truth of a sequence by the name of what they are of; several objects have a number each."""
    found = {
        each: match for each in sorted(folder.glob("groundtruth_rect*.txt")) if (match := _TRUTH.fullmatch(each.name))
    }
    name = folder.absolute().name
    numbered = len(found) > 1
    return {f"{name}.{match[1]}" if numbered and match[1] else name: path for path, match in found.items()}


def find_truth(root: Path) -> dict[str, Path]:
    """Files of ground truth by name: of a sequence, or of all below a folder.

    Raises:
        DataError: There are none.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folders = [root] if truth_files(root) else sorted(each for each in root.iterdir() if each.is_dir())
    found = {name: path for folder in folders for name, path in truth_files(folder).items()}
    if not found:
        raise DataError(f"{root}: no sequence of OTB here (<sequence>/groundtruth_rect.txt)")
    return found


def read_sequence(name: str, truth: Path, starts: Mapping[str, int] | None = None) -> OtbSequence:
    """A sequence with its images.

    Args:
        name: Its name.
        truth: Its file of ground truth.
        starts: Further numbers of first images by sequence, beside those that are known.

    Raises:
        DataError: An image is missing.
    """
    boxes, folder = read_boxes(truth), truth.parent / IMAGES
    if not folder.is_dir():
        raise DataError(f"{truth}: its images are missing: there is no folder {folder}")
    images = _numbered(folder)
    count, first = len(boxes), min(images, default=0)
    own = {**STARTS, **(starts or {})}
    start = own.get(name, own.get(truth.absolute().parent.name, first))
    if len(images) == count and not (starts or {}).get(name):
        start = first
    missing = [number for number in range(start, start + count) if number not in images]
    if missing:
        raise DataError(
            f"{truth}: {count} boxes from image {start} on, and image {missing[0]} is not in {folder} "
            f"({len(images)} images); is the folder complete?"
        )
    return OtbSequence(name, truth, tuple(images[number] for number in range(start, start + count)), boxes)


def frame_number(image: Path) -> int:
    """The last number in the name of an image.

    Raises:
        DataError: There is none.
    """
    digits = re.findall(r"\d+", image.stem)
    if not digits:
        raise DataError(f"{image}: its name states no frame; names are numbers, such as 0001.jpg")
    return int(digits[-1])


def images_of(folder: Path) -> list[Path]:
    """The images of a sequence in the order of their numbers."""
    return [image for _, image in sorted(_numbered(folder).items())]


def _numbered(folder: Path) -> dict[int, Path]:
    """Images by the number in their name."""
    images: dict[int, Path] = {}
    for each in list_images(folder).files:
        number = frame_number(each)
        if number in images:
            raise DataError(f"{each}: a duplicate of frame {number}, {images[number].name}")
        images[number] = each
    return images


def _results(path: Path) -> np.ndarray:
    content = read_json(path, "file of boxes")
    runs = content if isinstance(content, list) else [content]
    if len(runs) != 1:
        raise DataError(f"{path}: results of {len(runs)} runs; those of one pass are measured")
    run = object_at(runs[0], str(path), "results of a run")
    kind = run.get("resType", run.get("type", "rect"))
    if kind != "rect":
        raise DataError(f"{path}: results of type {shown(kind)}; boxes are measured, whose type is rect")
    try:
        boxes = np.array(run["res"], np.float64)
    except (KeyError, ValueError, TypeError):
        boxes = np.zeros(0)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{path}: `res` is no list of boxes [left, top, width, height]")
    return boxes
