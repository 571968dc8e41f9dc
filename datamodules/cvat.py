"""CVAT's own xml: images or frames of a video with boxes, polygons, ellipses and painted masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes
from datamodules.coco_places import find_image_folder
from datamodules.object_entries import AnnotatedImage, Segment
from datamodules.objects import ObjectData
from datamodules.splits import split_of
from datamodules.voc import parse_xml
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import resolve_listed
from visionkit.masks import encode_masks, mask_boxes
from visionkit.names import checked_name
from visionkit.text_files import flag, real_number, whole_number

_CORNERS = 36  # of the polygon that an ellipse becomes
_LARGEST = 1 << 29  # bytes of a file
_WITHOUT_AREA = ("polyline", "points", "tag", "cuboid", "skeleton")


class CvatData(ObjectData):
    """Boxes and outlines of CVAT's `annotations.xml` (for images, or for video with its frames as files).

    Args:
        root: The folder, or the xml file.
        labels: Name of the xml file below the folder.
        images: Folder of the images below it; looked for in the usual locations by default. Frames of a video are
            called `frame_000000`, as CVAT exports them.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are CVAT's labels in their order. A split is
            what CVAT calls a subset; without subsets validation and test are split off.
    """

    def __init__(self, root: str, *, labels: str = "annotations.xml", images: str | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.path = _file(Path(root), labels)
        self.images = images
        self.classes = self.classes or tuple(self.discover_classes(root, labels=labels))

    @property
    def source(self) -> str:
        return str(self.path)

    @classmethod
    def discover_classes(cls, root: str = "", labels: str = "annotations.xml", **init_args: Any) -> list[str]:
        """The labels of the task, in their order; those of the objects, in alphabetical order, where it has none."""
        path = _file(Path(root), labels)
        top = parse_xml(path, _LARGEST)
        names = [each.findtext("name") for each in top.iter("label") if each.find("name") is not None]
        used = [shape.get("label") or each.get("label") for each, shape, _ in _shapes(top)]
        listed = list(names) if names else sorted(name for name in set(used) if name)
        return list(dict.fromkeys(checked_name(name, str(path), "label") for name in listed))

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        top = parse_xml(self.path, _LARGEST)
        if top.tag != "annotations":
            raise DataError(f"{self.path}: CVAT's xml begins with <annotations>, not <{top.tag[:40]}>")
        images = _images(top, self.path)
        subsets = {image.get("subset") or "" for image in images.values()}
        known = {subset: split_of(subset) for subset in subsets if subset}
        if set(known.values()) - {None}:
            images = {key: each for key, each in images.items() if known.get(each.get("subset") or "") == split}
        elif split != "train":
            return None
        if not images:
            if split == "train":
                raise DataError(f"{self.path}: it has no images of the train split")
            return None
        folder = find_image_folder(
            self.path.parent, split, self.path, [i["name"] for i in images.values()], self.images
        )
        skipped: dict[str, int] = {}
        shapes: dict[str, list[tuple[Any, Any]]] = {}
        for owner, shape, key in _shapes(top):
            shapes.setdefault(key, []).append((owner, shape))
        entries = [self._entry(each, shapes.get(key, []), folder, skipped) for key, each in images.items()]
        self.note(split, self.path, skipped)
        return entries

    def _entry(
        self, image: Mapping[str, str], shapes: list[tuple[Any, Any]], folder: Path, skipped: dict[str, int]
    ) -> AnnotatedImage:
        place = f"{self.path} image {image['name'][:200]}"
        size = _size(image, place)
        names: dict[str, str] = {}
        boxes, segments, labels = [], [], []
        for owner, shape in shapes:
            if shape.tag in _WITHOUT_AREA:
                what = f"annotations of kind {shape.tag}"
                skipped[what] = skipped.get(what, 0) + 1
                continue
            name = checked_name(shape.get("label") or owner.get("label"), f"{place} {shape.tag}", "label")
            segment, box = _outline(shape, size, f"{place} {shape.tag} ({name})")
            boxes.append(box)
            segments.append(segment)
            labels.append(name)
            names.setdefault(name, f"{place} {shape.tag}")
        numbers = index_classes(names, self.classes)
        return AnnotatedImage(
            file=str(resolve_listed(folder, image["name"])),
            place=place,
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array([numbers[name] for name in labels], dtype=np.int64),
            size=size,
            segments=segments,
        )


def _file(root: Path, labels: str) -> Path:
    return root if root.is_file() else root / labels


def _images(top: Any, path: Path) -> dict[str, dict[str, str]]:
    """Name, width, height and subset of each image by its id; the frames of tracks where there are none."""
    found: dict[str, dict[str, str]] = {}
    for number, each in enumerate(top.findall("image")):
        if not (each.get("name") or "").strip():
            raise DataError(f"{path} image {number + 1}: it has no name")
        key = each.get("id") or each.get("name")
        if key in found:
            raise DataError(f"{path}: duplicate image id {key[:60]!r}")
        found[key] = dict(each.attrib)
    if found or top.find("track") is None:
        return found
    size = top.find("meta//original_size")
    sides = {key: size.findtext(key) or "" for key in ("width", "height")} if size is not None else {}
    frames = {whole_number(s.get("frame"), f"{path} track", "frame") for t in top.findall("track") for s in t}
    return {str(frame): {"name": f"frame_{frame:06d}", **sides} for frame in sorted(frames)}


def _shapes(top: Any) -> Any:
    """Owner, shape and id of the image of every object."""
    for image in top.findall("image"):
        for shape in image:
            yield image, shape, image.get("id") or image.get("name")
    if top.find("image") is not None:
        return
    for track in top.findall("track"):
        for shape in track:
            if not flag(shape.get("outside"), "track", "outside"):
                yield track, shape, str(shape.get("frame"))


def _size(image: Mapping[str, str], place: str) -> tuple[int, int] | None:
    if not image.get("width") or not image.get("height"):
        return None
    height, width = (whole_number(image[key], place, key, 1, 2**24) for key in ("height", "width"))
    return height, width


def _outline(shape: Any, size: tuple[int, int] | None, place: str) -> tuple[Segment, list[float]]:
    """Outline, or None of an upright box, and box."""

    def number(key: str) -> float:
        return real_number(shape.get(key), place, key)

    if shape.tag == "mask":
        return _mask(shape, size, place)
    turn = number("rotation") if shape.get("rotation") else 0.0
    if shape.tag == "box":
        x1, y1, x2, y2 = (number(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if not turn:
            return None, [x1, y1, x2, y2]
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        return _polygon(_turned(points, turn))
    if shape.tag == "ellipse":
        center, radii = np.array([number("cx"), number("cy")]), np.array([number("rx"), number("ry")])
        angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
        points = center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return _polygon(_turned(points, turn))
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
        if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
            raise DataError(f"{place}: points are 'x,y;x,y;...', at least three")
        return _polygon(np.array([[real_number(value, place, "points") for value in pair] for pair in pairs]))
    raise DataError(f"{place}: unknown type {shape.tag[:40]!r}; known are box, polygon, ellipse and mask")


def _turned(points: np.ndarray, degrees: float) -> np.ndarray:
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray((points - center) @ np.array([[c, s], [-s, c]]) + center)


def _polygon(points: np.ndarray) -> tuple[Segment, list[float]]:
    box = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    return [points.ravel().tolist()], box


def _mask(shape: Any, size: tuple[int, int] | None, place: str) -> tuple[Segment, list[float]]:
    """Run lengths along the rows of the mask's own box."""
    if size is None:
        raise DataError(f"{place}: a mask needs the width and height of its image")
    left, top = (whole_number(shape.get(key), place, key, 0, 2**24) for key in ("left", "top"))
    width, height = (whole_number(shape.get(key), place, key, 1, 2**24) for key in ("width", "height"))
    if left + width > size[1] or top + height > size[0] or size[0] * size[1] > 2**28:
        raise DataError(f"{place}: a mask of {height}x{width} at {left}, {top} in an image of {size[0]}x{size[1]}")
    counts = [whole_number(value.strip(), place, "rle") for value in (shape.get("rle") or "").split(",")]
    if sum(counts) != width * height:
        raise DataError(f"{place}: its run lengths cover {sum(counts)} pixels of {height}x{width}")
    bits = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    whole = np.zeros((1, *size), dtype=bool)
    whole[0, top : top + height, left : left + width] = bits
    rle = encode_masks(whole)[0]
    return rle, [float(value) for value in mask_boxes([rle])[0]]
