"""YOLO txt: one file per image, one line per object, `class cx cy w h` or `class x1 y1 x2 y2 ...`, in fractions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.class_names import shorten
from datamodules.object_entries import AnnotatedImage, Segment, known_scores
from datamodules.objects import ObjectData
from datamodules.yolo_description import Described, describe, find_listed
from visionkit.data import Split
from visionkit.errors import DataError, MissingSplit, suggest
from visionkit.images import ImageSource
from visionkit.listing import is_image_name, list_files, list_images, resolve_listed
from visionkit.refusals import refuse
from visionkit.text_files import read_lines, real_number

log = logging.getLogger(__name__)


class YoloData(ObjectData):
    """Boxes and polygons in YOLO's layout, described by its yaml file or by Darknet's `obj.data`.

    The yaml holds `path`, `train`, `val`, `test` (folders of images, or txt files that list them) and `names`. The
    labels of `images/a.jpg` are in `labels/a.txt` or beside it; an image without such a file has no objects. Where the
    yaml has `kpt_shape`, the boxes of its keypoint labels are read; `YoloPoseData` reads the keypoints too. With
    `scores: true` in it, lines may end in one more column, the score of a prediction.

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
        self.described = describe(self.yaml)
        names = tuple(self.described.names)
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
        return describe(Path(yaml)).names

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        found = list_labeled(self.described, split)
        if found is None:
            return None
        self.note(split, found.source, found.passed_over)
        return [yolo_entry(image, label, found.described) for image, label in found.pairs]


class Labeled(NamedTuple):
    """The images of a split with their label files, which need not exist.

    Attributes:
        described: What the description states.
        source: The split's folders or lists.
        pairs: Image and label file.
        passed_over: Number of files left out, by reason.
    """

    described: Described
    source: str
    pairs: list[tuple[Path, Path]]
    passed_over: dict[str, int]


def list_labeled(described: Described, split: Split) -> Labeled | None:
    """The images of one split with their label files; None where the description names none.

    Raises:
        DataError: No images, none of them labeled, or two images for one label file.
    """
    path = described.path
    given = described.places.get(split)
    if given is None:
        if split == "train":
            raise MissingSplit(f"{path}: it has no key 'train'{suggest('train', described.keys)}")
        return None
    places = [find_listed(described, each) for each in given]
    images: dict[Path, None] = {}
    passed_over: dict[str, int] = {}
    for place in places:
        for image in _listed_images(place, described) if place.suffix == ".txt" else _folder(place, passed_over):
            images[image] = None
    source = shorten(map(str, places), 3)
    if not images:
        raise DataError(f"{path}: {split}: no images in {source}")
    pairs = [(image, label_file(image)) for image in images]
    owners: dict[Path, Path] = {}
    for image, label in pairs:
        if owners.setdefault(label, image) != image:
            raise DataError(f"{path}: {owners[label]} and {image} share the labels {label}; rename or remove one")
    if not any(label.is_file() for _, label in pairs):
        raise DataError(
            f"{path}: {split}: none of {len(pairs)} images has labels; those of {pairs[0][0]} are looked for in "
            f"{pairs[0][1]}"
        )
    alone = [each for place in places if place.is_dir() for each in _without_image(place, owners)]
    if alone:
        passed_over["label files without an image"] = len(alone)
        log.warning(
            "%s: %s: label files without an image are left out: %d (%s)",
            *(path, split, len(alone), shorten(map(str, alone), 3)),
        )
    return Labeled(described, source, pairs, passed_over)


class Row(NamedTuple):
    """One line of a label file, in fractions of the image.

    Attributes:
        label: 0-based number of the class.
        box: x1, y1, x2, y2.
        polygon: x1, y1, x2, y2, ..., or None where the line has a box alone.
        keypoints: x, y or x, y, visibility of each, or None where the set has none.
        sides: Width and height as the file has them, or None.
        score: Score of a prediction, or None.
    """

    label: int
    box: tuple[float, float, float, float]
    polygon: list[float] | None
    keypoints: list[float] | None = None
    sides: tuple[float, float] | None = None
    score: float | None = None

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """x, y, width and height, the sides as the file has them."""
        x1, y1, x2, y2 = self.box
        return x1, y1, *(self.sides or (x2 - x1, y2 - y1))


def yolo_entry(image: Path, path: Path, described: Described) -> AnnotatedImage:
    """One image with its label file; the image's header is read, since the labels are fractions of it.

    Raises:
        DataError: A line with a wrong number of columns, no numbers, or a class that is not there; names file and line.
    """
    rows = list(yolo_rows(path, len(described.names), described.columns, described.scores))
    size = ImageSource(image).size if rows else None
    height, width = size or (1, 1)
    scale = np.array([width, height, width, height], dtype=np.float64)
    segments: list[Segment] = []
    for row in rows:
        if row.polygon is None:
            segments.append(None)
        else:
            points = np.array(row.polygon).reshape(-1, 2) * (width, height)
            segments.append([points.ravel().tolist()])
    more = {"file_xywh": np.array([row.extent for row in rows], dtype=np.float64).reshape(-1, 4) * scale}
    if described.keypoints is not None:
        count, columns = described.keypoints
        more["keypoints"] = _keypoints([row.keypoints or [] for row in rows], count, columns, (width, height))
    return AnnotatedImage(
        file=str(image),
        place=str(path),
        boxes=np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4) * scale,
        labels=np.array([row.label for row in rows], dtype=np.int64),
        size=size,
        segments=segments,
        scores=known_scores([row.score for row in rows]),
        more=more,
    )


def yolo_rows(path: Path, classes: int, keypoint_columns: int = 0, scored: bool = False) -> Iterator[Row]:
    """The lines of a label file; none where there is no file.

    Args:
        path: The txt file.
        classes: Number of classes.
        keypoint_columns: How many of its columns are keypoints.
        scored: A line may end in one more column, its score.
    """
    if not path.exists():
        return
    for number, line in read_lines(path, "label file"):
        try:
            row = _row(line.split(), f"{path} line {number}", classes, keypoint_columns, scored)
        except DataError as error:
            refuse("broken-label", error)
            continue
        yield row


def _row(cells: list[str], place: str, classes: int, keypoint_columns: int, scored: bool) -> Row:
    """One line of a label file."""
    score = None
    if scored and (len(cells) == 6 + keypoint_columns if keypoint_columns else len(cells) >= 6 and not len(cells) % 2):
        score = real_number(cells.pop(), place, "score")
        if not 0 <= score <= 1:
            raise DataError(f"{place}: the score {score:g} in its last column is not from 0 to 1")
    if keypoint_columns and len(cells) != 5 + keypoint_columns:
        raise DataError(
            f"{place}: {len(cells)} columns; by kpt_shape it has {5 + keypoint_columns}: class cx cy w h and "
            f"{keypoint_columns} of keypoints"
        )
    if not keypoint_columns and len(cells) != 5 and (len(cells) < 7 or len(cells) % 2 == 0):
        raise DataError(
            f"{place}: {len(cells)} columns; a box has 5 (class cx cy w h), a polygon 7, 9, 11, ... "
            "(class x1 y1 x2 y2 x3 y3 ...); keypoints need kpt_shape in the yaml, a last column of scores "
            "needs scores: true"
        )
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        values = [float("nan")]
    if values[0] != round(values[0]) if abs(values[0]) < 2**53 else True:
        raise DataError(f"{place}: {shorten(cells, 6)}: a whole number and then numbers are allowed")
    label, values = int(values[0]), values[1:]
    if not 0 <= label < classes:
        raise DataError(f"{place}: class {label}; there are {classes}, numbered from 0")
    keypoints = values[4:] if keypoint_columns else None
    values = values[:4] if keypoint_columns else values
    if not all(-0.5 <= value <= 1.5 for value in values):  # a NaN is in no range
        raise DataError(f"{place}: {shorten(cells[1:], 6)}: coordinates are fractions of the image, from 0 to 1")
    if len(values) == 4:
        x, y, w, h = values
        return Row(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), None, keypoints, (w, h), score)
    corners = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    return Row(label, corners, values, score=score)


def label_file(image: Path) -> Path:
    """Where the labels of an image are: the last folder `images` of its path becomes `labels`; or beside the image.

    Of several places the first that exists; where none does, the usual one.
    """
    parts = list(image.parts)
    name = f"{image.stem if is_image_name(image.name) else image.name}.txt"
    swapped = [k for k in reversed(range(len(parts) - 1)) if parts[k].lower() in ("images", "jpegimages")]
    folders = [Path(*parts[:k], "labels", *parts[k + 1 : -1]) for k in swapped] + [image.parent]
    places = [resolve_listed(folder, name) for folder in folders]
    return next((place for place in places if place.is_file()), places[0])


def _keypoints(rows: Sequence[Sequence[float]], count: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """(N, K, 3) in pixels; without a third column every keypoint that is not 0, 0 is visible."""
    values = np.array(rows, dtype=np.float64).reshape(-1, count, columns)
    visible = values[..., 2] if columns == 3 else 2.0 * (values != 0).any(axis=-1)
    out = np.concatenate([values[..., :2] * size, visible[..., None]], axis=-1)
    return out.astype(np.float32)


def _without_image(folder: Path, owners: dict[Path, Path]) -> list[Path]:
    """Label files for images below a folder that are not there."""
    labels = label_file(folder / "any.jpg").parent
    # Where labels lie beside the images, other text does too; elsewhere programs leave the list of names there.
    if labels == folder or not labels.is_dir():
        return []
    return [path for path in list_files(labels, {".txt"}).files if path not in owners and path.name != "classes.txt"]


def _listed_images(place: Path, described: Described) -> list[Path]:
    return [find_listed(described, line, place.parent) for _, line in read_lines(place)]


def _folder(place: Path, passed_over: dict[str, int]) -> list[Path]:
    listing = list_images(place)
    for reason, number in listing.counts.items():
        if reason != "not an image (.txt)":  # labels beside their images
            passed_over[reason] = passed_over.get(reason, 0) + number
    return listing.files
