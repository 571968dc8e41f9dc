"""COCO json: boxes, polygons, run lengths, crowds; category ids with gaps."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes, shorten
from datamodules.objects import Entry, ObjectData, Segment
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.masks import Rle, compress_counts, mask_boxes, run_lengths

_LABELS = ("annotations/instances_{split}*.json", "annotations/*{split}*.json", "{split}/*.json", "*{split}*.json")
_IMAGES = ("images/{split}", "{split}/images", "{split}", "{split}2017", "{split}2014", "images", ".")


class CocoData(ObjectData):
    """Boxes and masks of COCO json files.

    Args:
        root: The folder of the data set. Label files and picture folders are looked for in the usual places below it:
            `annotations/instances_train2017.json` and `train2017/`, `annotations/instances_train.json` and
            `images/train/`, `train/_annotations.coco.json` and its pictures beside it.
        labels: Where the label files are, with `{split}` in place of train, val and test: a path below `root`, which
            may have a `*`.
        images: Where the pictures are, in the same way.
        **base: See `datamodules.objects.ObjectData`. `classes` left out are the categories by rising id.

    Example:
        >>> data = CocoData("coco", target="masks", input=task.input)
        >>> data.classes[:2]
        ('person', 'bicycle')
    """

    def __init__(self, root: str, *, labels: str | None = None, images: str | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.root, self.labels, self.images = Path(root), labels, images
        self.classes = self.classes or tuple(self.discover_classes(root, labels=labels))

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def discover_classes(cls, root: str = "", labels: str | None = None, **init_args: Any) -> list[str]:
        """The categories of the training file by rising id."""
        path = label_file(Path(root), "train", labels)
        assert path is not None  # it must be there
        return list(_categories(load_json(path), path).values())

    def read(self, split: Split) -> list[Entry] | None:
        path = label_file(self.root, split, self.labels, must=split == "train")
        if path is None:
            return None
        coco = read_coco(path)
        numbers = index_classes(dict.fromkeys(coco.categories.values(), f"{path} categories"), self.classes)
        folder = picture_folder(self.root, split, path, coco, self.images)
        labels = {category: numbers[name] for category, name in coco.categories.items()}
        return [coco_entry(coco, image, str(folder / image["file_name"]), labels) for image in coco.images]


@dataclass(frozen=True, eq=False)
class CocoFile:
    """One checked label file.

    Attributes:
        path: Of the file.
        images: By rising id.
        categories: Name by id, rising.
        annotations: By id of their image, in the order of the file.
    """

    path: Path
    images: list[dict[str, Any]]
    categories: dict[int, str]
    annotations: dict[int, list[dict[str, Any]]]


def load_json(path: Path) -> dict[str, Any]:
    """The top of a COCO file.

    Raises:
        DataError: Missing, no json (line and column are told), or another kind of json.
    """
    try:
        top = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such label file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno} column {error.colno}: no valid json ({error.msg})") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: no valid json ({type(error).__name__})") from None
    if not isinstance(top, dict):
        raise DataError(f"{path}: a COCO file is an object with images, annotations and categories, not a list")
    for key in ("images", "annotations", "categories"):
        if not isinstance(top.get(key), list):
            raise DataError(f"{path}: it has no list {key!r}{suggest(key, top)}")
    return top


def read_coco(path: Path) -> CocoFile:
    """Reads and checks a COCO file.

    Raises:
        DataError: See `load_json`; ids that stand there twice, annotations of absent pictures or categories. Names the
            entry.
    """
    top = load_json(path)
    categories = _categories(top, path)
    images: dict[int, dict[str, Any]] = {}
    for number, image in enumerate(top["images"]):
        place = f"{path} images[{number}]"
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise DataError(f"{place}: an image has an id and a file_name")
        if image["id"] in images:
            raise DataError(f"{place}: the image id {image['id']} stands there twice")
        images[image["id"]] = image
    annotations: dict[int, list[dict[str, Any]]] = {}
    seen: set[Any] = set()
    for number, each in enumerate(top["annotations"]):
        place = f"{path} annotations[{number}]"
        if not isinstance(each, dict) or not {"image_id", "category_id"} <= each.keys():
            raise DataError(f"{place}: an annotation has an image_id and a category_id")
        if "id" in each:
            if each["id"] in seen:
                raise DataError(f"{place}: the annotation id {each['id']} stands there twice")
            seen.add(each["id"])
        if each["image_id"] not in images:
            raise DataError(f"{place} (id {each.get('id')}): there is no image with the id {each['image_id']}")
        if each["category_id"] not in categories:
            known = shorten(f"{key} {name}" for key, name in categories.items())
            raise DataError(
                f"{place} (id {each.get('id')}): there is no category with the id {each['category_id']} among {known}"
            )
        annotations.setdefault(each["image_id"], []).append(each)
    ordered = [images[key] for key in sorted(images, key=_rising)]
    return CocoFile(path, ordered, categories, annotations)


def coco_entry(coco: CocoFile, image: dict[str, Any], file: str, labels: dict[int, int]) -> Entry:
    """One picture of a COCO file.

    Args:
        coco: The file.
        image: One of its images.
        file: Where the picture is.
        labels: Number of a class by category id.

    Raises:
        DataError: A box or an outline that is none; names the annotation.
    """
    objects = coco.annotations.get(image["id"], [])
    size = _size(coco.path, image)
    boxes, areas, segments = [], [], []
    for each in objects:
        place = f"{coco.path} annotation {each.get('id')} (image {image['file_name']})"
        segment = coco_segment(each.get("segmentation"), size, place)
        boxes.append(_box(each.get("bbox"), segment, place))
        segments.append(segment)
        areas.append(_area(each, place))
    return Entry(
        file=file,
        place=f"{coco.path} image {image['file_name']}",
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        labels=np.array([labels[each["category_id"]] for each in objects], dtype=np.int64),
        size=size,
        area=np.array(areas, dtype=np.float64),
        crowd=np.array([bool(each.get("iscrowd", 0)) for each in objects], dtype=bool),
        segments=segments,
    )


def coco_segment(given: Any, size: tuple[int, int] | None, place: str) -> Segment:
    """Polygons as they are, run lengths compressed; None where there is nothing.

    Raises:
        DataError: Neither of the two.
    """
    if given is None or given == []:
        return None
    if isinstance(given, list):
        for polygon in given:
            numbers = isinstance(polygon, list) and all(
                isinstance(v, (int, float)) and math.isfinite(v) for v in polygon
            )
            if not numbers or len(polygon) < 6 or len(polygon) % 2:
                raise DataError(f"{place}: a polygon is a list of x1, y1, x2, y2, ... of at least three points")
        return given
    if isinstance(given, dict) and {"size", "counts"} <= given.keys():
        sides = (int(given["size"][0]), int(given["size"][1]))
        if size is not None and sides != size:
            raise DataError(f"{place}: a mask of {sides[0]}x{sides[1]} for a picture of {size[0]}x{size[1]}")
        counts = given["counts"]
        try:
            rle = Rle(size=list(sides), counts=counts) if isinstance(counts, str) else compress_counts(counts, sides)
            total = int(run_lengths(rle).sum())
        except (ValueError, TypeError):
            raise DataError(f"{place}: its run lengths cannot be read") from None
        if total > sides[0] * sides[1]:
            raise DataError(f"{place}: its run lengths cover {total} pixels of {sides[0]}x{sides[1]}")
        return rle
    raise DataError(f"{place}: a segmentation is a list of polygons, or run lengths with size and counts")


def _categories(top: dict[str, Any], path: Path) -> dict[int, str]:
    out: dict[int, str] = {}
    for number, each in enumerate(top["categories"]):
        place = f"{path} categories[{number}]"
        if not isinstance(each, dict) or "id" not in each or not isinstance(each.get("name"), str):
            raise DataError(f"{place}: a category has an id and a name")
        if each["id"] in out:
            raise DataError(f"{place}: the category id {each['id']} stands there twice")
        if each["name"] in out.values():
            raise DataError(f"{place}: the category name {each['name']!r} stands there twice")
        out[each["id"]] = each["name"]
    return dict(sorted(out.items(), key=lambda item: _rising(item[0])))


def _rising(key: Any) -> tuple[int, float, str]:
    """Numbers by their value, then names: some tools write ids as text."""
    return (0, float(key), "") if isinstance(key, (int, float)) else (1, 0.0, str(key))


def _size(path: Path, image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if height is None or width is None:
        return None
    if not all(isinstance(side, (int, float)) and side >= 1 for side in (height, width)):
        raise DataError(f"{path} image {image['file_name']}: height {height!r} and width {width!r} are no picture size")
    return int(height), int(width)


def _box(given: Any, segment: Segment, place: str) -> Sequence[float]:
    if given is None and isinstance(segment, list):
        points = np.concatenate([np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segment])
        return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    if given is None and segment is not None and not isinstance(segment, list):
        return [float(value) for value in mask_boxes([segment])[0]]
    numbers = isinstance(given, list) and len(given) == 4 and all(isinstance(value, (int, float)) for value in given)
    if not numbers:
        raise DataError(f"{place}: a bbox is four numbers x, y, width, height, not {json.dumps(given)[:60]}")
    x, y, width, height = (float(value) for value in given)
    if not all(map(math.isfinite, (x, y, width, height))):
        raise DataError(f"{place}: its bbox ({x:g}, {y:g}, {width:g}, {height:g}) has a value that is not finite")
    return [x, y, x + width, y + height]


def _area(each: dict[str, Any], place: str) -> float:
    area = each.get("area")
    if area is None:
        return math.nan  # worked out with the outline, when the picture is asked for
    if not isinstance(area, (int, float)) or not math.isfinite(area):
        raise DataError(f"{place}: its area {area!r} is no number")
    return float(area)


def picture_folder(root: Path, split: str, path: Path, coco: CocoFile, images: str | None) -> Path:
    """The folder of a split's pictures.

    Args:
        root: Of the data set.
        split: Its name.
        path: The label file.
        coco: What it says.
        images: The folder below `root` with `{split}` in it; looked for in the usual places where left out.

    Raises:
        DataError: The first picture is in none of these places.
    """
    if images is not None:
        return root / images.format(split=split)
    name = coco.images[0]["file_name"] if coco.images else ""
    places = [path.parent, *(root / each.format(split=split) for each in _IMAGES)]
    for folder in places:
        if (folder / name).is_file():
            return folder
    tried = ", ".join(dict.fromkeys(str(folder) for folder in places))
    raise DataError(f"{path}: its picture {name!r} is in none of {tried}; give --data.images with {{split}} in it")


def label_file(root: Path, split: str, labels: str | None, must: bool = True) -> Path | None:
    """The label file of a split, or None.

    Args:
        root: Of the data set.
        split: Its name.
        labels: A path below `root` with `{split}` in it, which may have a `*`; the usual names where left out.
        must: It has to be there.

    Raises:
        DataError: No such folder, several files that fit, or none where one has to be there.
    """
    if not str(root) or not root.is_dir():
        raise DataError(f"{root}: no such folder; give --data.root")
    patterns = [labels] if labels is not None else list(_LABELS)
    for pattern in patterns:
        found = sorted(root.glob(pattern.format(split=split)))
        if len(found) > 1:
            names = [str(each.relative_to(root)) for each in found]
            raise DataError(
                f"{root}: {len(found)} files may hold the labels of {split}: {shorten(names, 3)}; "
                "give --data.labels with {split} in it"
            )
        if found:
            return found[0]
    if must:
        tried = ", ".join(pattern.format(split=split) for pattern in patterns)
        raise DataError(f"{root}: no label file of {split} ({tried}); give --data.labels with {{split}} in it")
    return None
