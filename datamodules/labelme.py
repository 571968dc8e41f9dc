"""labelme's json: one file beside each image, with polygons, rectangles and circles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData
from datamodules.splits import SPLITS, split_folders
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import Listing, list_files, list_images, resolve_listed
from visionkit.names import checked_name
from visionkit.text_files import object_at, read_json, real_number, shown, whole_number

_CORNERS = 36  # of the polygon that a circle becomes
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


class LabelmeData(ObjectData):
    """Boxes and outlines of labelme's json files; shapes of one label and group are one object.

    Args:
        root: The folder, with json files beside the images or in a folder of their own, or with `train`, `val` and
            `test` of that type.
        images: Folder of the images below each split's folder; by default, each json names its image.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are the labels in alphabetical order.
    """

    def __init__(self, root: str, *, images: str | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.root, self.images = Path(root), images
        self.classes = self.classes or tuple(self.discover_classes(root))

    @classmethod
    def discover_classes(cls, root: str = "", **init_args: Any) -> list[str]:
        """The labels of the training files in alphabetical order."""
        folders = _folders(Path(root))
        first = next(folders[split] for split in SPLITS if split in folders)
        return sorted({name for _, top in _files(first) for name in _labels(top)})

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        folders = _folders(self.root)
        if split not in folders:
            return None
        folder = folders[split]
        skipped: dict[str, int] = {}
        listing = list_images(folder / self.images if self.images is not None else folder)
        stems: dict[str, list[Path]] = {}
        for file in listing.files:
            stems.setdefault(file.stem, []).append(file)
        entries = [self._entry(path, top, stems, skipped) for path, top in _files(folder)]
        skipped |= {why: number for why, number in listing.counts.items() if why != "not an image (.json)"}
        skipped["images without a json file"] = _unnamed(listing, (entry.file for entry in entries))
        self.note(split, folder, skipped)
        return entries

    def _entry(
        self, path: Path, top: dict[str, Any], stems: dict[str, list[Path]], skipped: dict[str, int]
    ) -> AnnotatedImage:
        groups: dict[Any, tuple[str, list[list[float]]]] = {}
        places: dict[str, str] = {}
        for number, shape in enumerate(top["shapes"]):
            place = f"{path} shapes[{number}]"
            name = checked_name(object_at(shape, place).get("label"), place, "label")
            kind = shape.get("shape_type") or "polygon"
            if kind in _WITHOUT_AREA:
                what = f"shapes of kind {kind}"
                skipped[what] = skipped.get(what, 0) + 1
                continue
            group = shape.get("group_id")
            key = (number,) if group is None else (name, shown(group))
            groups.setdefault(key, (name, []))[1].append(_outline(kind, shape.get("points"), place))
            places.setdefault(name, place)
        numbers = index_classes(places, self.classes)
        boxes = []
        for _, outlines in groups.values():
            points = np.concatenate([np.reshape(outline, (-1, 2)) for outline in outlines])
            boxes.append([*points.min(axis=0), *points.max(axis=0)])
        return AnnotatedImage(
            file=str(_image(path, top, stems)),
            place=str(path),
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array([numbers[name] for name, _ in groups.values()], dtype=np.int64),
            size=_size(top, path),
            segments=[outlines for _, outlines in groups.values()],
        )


def _folders(root: Path) -> dict[Split, Path]:
    """The folders of the splits; the folder itself is for training where it has none."""
    return split_folders(root) or {"train": root}


def _files(folder: Path) -> Iterable[tuple[Path, dict[str, Any]]]:
    found = []
    for path in list_files(folder, {".json"}).files:
        top = read_json(path)
        if isinstance(top, dict) and isinstance(top.get("shapes"), list):
            found.append((path, top))
        elif not isinstance(top, dict) or "shapes" in top:
            raise DataError(f"{path}: labelme's json is an object with a list of shapes")
    if not found:
        raise DataError(f"{folder}: no json file there has shapes, as labelme writes them")
    return found


def _labels(top: dict[str, Any]) -> list[str]:
    named = [shape for shape in top["shapes"] if isinstance(shape, dict)]
    kinds = [shape.get("shape_type") or "polygon" for shape in named]
    return [
        checked_name(shape.get("label"), "shapes", "label")
        for shape, kind in zip(named, kinds, strict=True)
        if kind not in _WITHOUT_AREA
    ]


def _outline(kind: Any, given: Any, place: str) -> list[float]:
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "oriented_rectangle": 4}
    if not isinstance(kind, str) or kind not in least:
        raise DataError(f"{place}: unknown shape_type {shown(kind)}; known are {', '.join((*least, *_WITHOUT_AREA))}")
    if not isinstance(given, list) or len(given) < least[kind]:
        raise DataError(f"{place}: a {kind} has a list of at least {least[kind]} points")
    if not all(isinstance(point, list) and len(point) == 2 for point in given):
        raise DataError(f"{place}: a point is a list of x and y")
    points = np.array([[real_number(value, place, "points") for value in point] for point in given])
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    if kind == "circle":
        radius = math.hypot(*(points[1] - points[0]))
        angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
        points = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [float(value) for value in points.ravel()]


def _image(path: Path, top: dict[str, Any], stems: dict[str, list[Path]]) -> Path:
    """The image that the file names, else the one of its own name."""
    named = top.get("imagePath")
    if isinstance(named, str) and named.strip():
        for name in (named, named.replace("\\", "/").rpartition("/")[2]):
            found = resolve_listed(path.parent, name)
            if found.is_file():
                return found
        stem = Path(name).stem
    else:
        stem = path.stem
    same = stems.get(stem) or stems.get(path.stem) or []
    if len(same) > 1:
        beside = [each for each in same if each.parent == path.parent]
        same = beside if len(beside) == 1 else same
    if len(same) > 1:
        raise DataError(f"{path}: {same[0]} and {same[1]} could both be its image; rename or remove one")
    return same[0] if same else resolve_listed(path.parent, str(named or f"{path.stem}.jpg"))


def _size(top: dict[str, Any], path: Path) -> tuple[int, int] | None:
    sides = [top.get(key) for key in ("imageHeight", "imageWidth")]
    if not all(sides):
        return None
    height, width = (whole_number(side, str(path), "imageHeight or imageWidth", 1, 2**24) for side in sides)
    return height, width


def _unnamed(listing: Listing, used: Iterable[str]) -> int:
    return len(set(map(str, listing.files)) - set(used))
