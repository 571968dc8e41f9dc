"""COCO json: boxes, polygons, run lengths, crowds; category ids with gaps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import index_classes, shorten
from datamodules.coco_places import any_label_file, find_image_folder, image_file, label_file
from datamodules.object_entries import AnnotatedImage, Segment, known_scores
from datamodules.objects import ObjectData
from datamodules.splits import split_in
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.masks import Rle, compress_counts, mask_boxes, run_lengths
from visionkit.names import checked_name
from visionkit.refusals import refuse
from visionkit.text_files import flag, read_json, real_number, shown, whole_number

Id = int | str
"""Of an image or a category: a number, or what a tool uses in its place."""


class CocoData(ObjectData):
    """Boxes and masks of COCO json files.

    Args:
        root: The folder of the data set. Label files and image folders are looked for in the usual locations below it:
            `annotations/instances_train2017.json` and `train2017/`, `annotations/instances_train.json` and
            `images/train/`, `train/_annotations.coco.json` and its images beside it.
        labels: Where the label files are, with `{split}` in place of train, val and test: a path below `root`, which
            may have a `*`.
        images: Where the images are, in the same way.
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

    @classmethod
    def discover_classes(cls, root: str = "", labels: str | None = None, **init_args: Any) -> list[str]:
        """The categories of the training file, or of another where there is none, by rising id."""
        return list(read_coco(any_label_file(Path(root), labels)).categories.values())

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        path = label_file(self.root, split, self.labels, must=split == "train")
        if path is None:
            return None
        coco = read_coco(path)
        numbers = index_classes(dict.fromkeys(coco.categories.values(), f"{path} categories"), self.classes)
        folder = image_folder(self.root, split, coco, self.images)
        self.note(split, path, coco.passed_over)
        labels = {category: numbers[name] for category, name in coco.categories.items()}
        return [coco_entry(coco, image, image_file(folder, image), labels) for image in coco.images]


@dataclass(frozen=True, eq=False)
class CocoFile:
    """One checked label file; its ids are numbers wherever they can be, however the file writes them.

    Attributes:
        path: Path of the file.
        images: Images by rising id.
        categories: Name by id, rising.
        annotations: Annotations by id of their image, in the order of the file.
        passed_over: Number of entries that are left out, by reason.
        details: Categories as the file has them, by id.
    """

    path: Path
    images: list[dict[str, Any]]
    categories: dict[Any, str]
    annotations: dict[Any, list[dict[str, Any]]]
    passed_over: dict[str, int] = field(default_factory=dict)
    details: dict[Any, dict[str, Any]] = field(default_factory=dict)


def load_json(path: Path) -> dict[str, Any]:
    """The top of a COCO file.

    Raises:
        DataError: Missing, not valid json (with line and column), or another type of json.
    """
    top = read_json(path)
    if not isinstance(top, dict):
        raise DataError(f"{path}: a COCO file is an object with images, annotations and categories, not a list")
    for key in ("images", "annotations", "categories"):
        if not isinstance(top.get(key), list):
            raise DataError(f"{path}: it has no list {key!r}{suggest(key, top)}")
    return top


def read_coco(path: Path) -> CocoFile:
    """Reads and checks a COCO file.

    Raises:
        DataError: See `load_json`; duplicate ids, annotations of absent images or categories. Names the entry.
    """
    top = load_json(path)
    images: dict[Id, dict[str, Any]] = {}
    for number, image in enumerate(top["images"]):
        place = f"{path} images[{number}]"
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name.strip() or "id" not in image:
            raise DataError(f"{place}: an image has an id and a file_name")
        key = identifier(image["id"], place, "id")
        if key in images:
            refuse("duplicate-entry", DataError(f"{place}: duplicate image id {shown(key)}"))
            continue
        images[key] = {**image, "id": key}
    categories = _categories(top, path)
    annotations: dict[Id, list[dict[str, Any]]] = {}
    seen: set[Id] = set()
    for number, each in enumerate(top["annotations"]):
        place = f"{path} annotations[{number}]"
        if not isinstance(each, dict) or not {"image_id", "category_id"} <= each.keys():
            raise DataError(f"{place}: an annotation has an image_id and a category_id")
        if each.get("id") is not None:
            key = identifier(each["id"], place, "id")
            if key in seen:
                refuse("duplicate-entry", DataError(f"{place}: duplicate annotation id {shown(key)}"))
                continue
            seen.add(key)
            place = f"{place} (id {shown(key)})"
        source_image = identifier(each["image_id"], place, "image_id")
        category = identifier(each["category_id"], place, "category_id")
        if source_image not in images:
            refuse("broken-label", DataError(f"{place}: there is no image with the id {shown(source_image)}"))
            continue
        if category not in categories:
            known = shorten(f"{key} {name}" for key, name in categories.items())
            error = f"{place}: there is no category with the id {shown(category)} among {known}"
            refuse("broken-label", DataError(error))
            continue
        annotations.setdefault(source_image, []).append({**each, "image_id": source_image, "category_id": category})
    passed_over = {}
    placeholder = _placeholder(top["categories"], categories, annotations)
    if placeholder is not None:
        passed_over[f"placeholder category {categories.pop(placeholder)!r}, which Roboflow writes"] = 1
    _refuse_equal_names(categories, path)
    details = {identifier(each["id"], str(path), "id"): each for each in top["categories"]}
    ordered = [images[key] for key in sorted(images, key=_rising)]
    return CocoFile(path, ordered, categories, annotations, passed_over, details)


def identifier(value: Any, place: str, what: str) -> Id:
    """An id as it is compared: `"7"` and `7.0` are 7; text that is no number stays text.

    Raises:
        DataError: Neither a whole number nor text.
    """
    if isinstance(value, str) and (text := value.strip()):
        return int(text) if len(text) < 40 and re.fullmatch(r"-?(0|[1-9][0-9]*)", text) else text
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{place}: {what} is {shown(value)}; allowed is a whole number or text")


def coco_entry(coco: CocoFile, image: dict[str, Any], file: str, labels: Mapping[Any, int]) -> AnnotatedImage:
    """One image of a COCO file.

    Args:
        coco: The file.
        image: One of its images.
        file: Where the image is.
        labels: Number of a class by category id; annotations of other categories are left out.

    Raises:
        DataError: A box or an outline that is none; names the annotation.
    """
    objects = [each for each in coco.annotations.get(image["id"], []) if each["category_id"] in labels]
    size = stated_size(coco.path, image)
    name = image["file_name"][:200]
    boxes, areas, segments, crowd = [], [], [], []
    for each in list(objects):
        place = f"{coco.path} annotation {shown(each.get('id'))} (image {name})"
        try:
            segment = coco_segment(each.get("segmentation"), size, place)
            box, area = _box(each.get("bbox"), segment, place), _area(each, place)
            is_crowd = flag(each.get("iscrowd"), place, "iscrowd")
        except DataError as error:
            refuse("broken-label", error)
            objects.remove(each)
            coco.annotations[image["id"]].remove(each)
            continue
        boxes.append(box)
        segments.append(segment)
        areas.append(area)
        crowd.append(is_crowd)
    sides = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return AnnotatedImage(
        file=file,
        place=f"{coco.path} image {name}",
        boxes=np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1),
        labels=np.array([labels[each["category_id"]] for each in objects], dtype=np.int64),
        size=size,
        area=np.array(areas, dtype=np.float64),
        crowd=np.array(crowd, dtype=bool),
        segments=segments,
        scores=known_scores([each.get("score") for each in objects]),
        more={"file_xywh": sides},
    )


def coco_segment(given: Any, size: tuple[int, int] | None, place: str) -> Segment:
    """Polygons as they are, run lengths compressed; None where there is nothing.

    Raises:
        DataError: Neither of the two.
    """
    if given is None or given in ([], {}, ""):
        return None
    if isinstance(given, list):
        flat = [given] if all(isinstance(value, (int, float)) for value in given) else given  # some write one bare
        return [_polygon(polygon, place) for polygon in flat]
    if isinstance(given, dict) and {"size", "counts"} <= given.keys():
        return _runs(given, size, place)
    raise DataError(f"{place}: a segmentation is a list of polygons, or run lengths with size and counts")


def _polygon(given: Any, place: str) -> list[float]:
    try:
        points = np.array(given, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise DataError(f"{place}: a polygon is a list of x1, y1, x2, y2, ... of at least three points")
    return [float(value) for value in points]


def _runs(given: dict[str, Any], size: tuple[int, int] | None, place: str) -> Rle:
    stated = given["size"]
    if not isinstance(stated, list) or len(stated) != 2:
        raise DataError(f"{place}: the size of a mask is [height, width], not {shown(stated)}")
    height, width = (whole_number(side, place, "the size of its mask", 1, 2**24) for side in stated)
    if size is not None and (height, width) != size:
        raise DataError(f"{place}: a mask of {height}x{width} for an image of {size[0]}x{size[1]}")
    counts = given["counts"]
    try:
        rle = counts if isinstance(counts, str) else compress_counts(counts, (height, width))["counts"]
        return _complete(Rle(size=[height, width], counts=rle))
    except (ValueError, TypeError, OverflowError) as error:
        cause = str(error) if type(error) is ValueError and "cover" in str(error) else "cannot be read"
        raise DataError(f"{place}: its run lengths {cause}") from None


def _complete(rle: Rle) -> Rle:
    """Run lengths of a file, checked; where they end early the rest of the image does not belong to the object.

    Raises:
        ValueError: Letters or numbers that are no run lengths, or more pixels than the image has.
    """
    counts, (height, width) = run_lengths(rle), rle["size"]
    rest = height * width - int(counts.sum())
    if rest < 0:
        raise ValueError(f"cover {int(counts.sum())} pixels of {height}x{width}")
    if rest == 0:
        return rle
    counts = np.append(counts, [rest] if len(counts) % 2 == 0 else [0, rest])  # of what is not the object
    return compress_counts(counts.tolist(), (height, width))


def _categories(top: dict[str, Any], path: Path) -> dict[Any, str]:
    out: dict[Id, str] = {}
    for number, each in enumerate(top["categories"]):
        place = f"{path} categories[{number}]"
        if not isinstance(each, dict) or "id" not in each or "name" not in each:
            raise DataError(f"{place}: a category has an id and a name")
        key = identifier(each["id"], place, "id")
        if key in out:
            raise DataError(f"{place}: duplicate category id {shown(key)}")
        out[key] = checked_name(each["name"], place, "category name")
    return dict(sorted(out.items(), key=lambda item: _rising(item[0])))


def _placeholder(
    given: list[dict[str, Any]], categories: Mapping[Id, str], annotations: Mapping[Any, Any]
) -> Id | None:
    """Roboflow's category 0, which names the project: every other one has it as its supercategory, nothing is of it."""
    name = categories.get(0)
    if (
        name is None
        or len(categories) < 2
        or any(each["category_id"] == 0 for row in annotations.values() for each in row)
    ):
        return None
    others = [each.get("supercategory") for each in given if identifier(each["id"], "", "id") != 0]
    above = all(isinstance(each, str) and each.strip() == name for each in others)
    same = sum(each == name for each in categories.values()) > 1
    return 0 if above or same else None


def _refuse_equal_names(categories: Mapping[Any, str], path: Path) -> None:
    ids: dict[str, Any] = {}
    for key, name in categories.items():
        if name in ids:
            raise DataError(f"{path}: duplicate category name {name!r}, of the ids {shown(ids[name])} and {shown(key)}")
        ids[name] = key


def _rising(key: Id) -> tuple[int, int, str]:
    """Numbers by their value, then names: some tools write ids as text."""
    return (0, key, "") if isinstance(key, int) else (1, 0, key)


def stated_size(path: Path, image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width as the file has them, or None.

    Raises:
        DataError: One of them is no whole number.
    """
    height, width = image.get("height"), image.get("width")
    if not height or not width:
        return None
    place = f"{path} image {image['file_name'][:200]}"
    return whole_number(height, place, "height", 1, 2**24), whole_number(width, place, "width", 1, 2**24)


def _box(given: Any, segment: Segment, place: str) -> Sequence[float]:
    """x, y, width, height."""
    if given in (None, []) and segment is not None:
        if isinstance(segment, list):
            points = np.concatenate([np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segment])
            low, high = points.min(axis=0), points.max(axis=0)
        else:
            low, high = np.split(mask_boxes([segment])[0].astype(np.float64), 2)
        return [*low.tolist(), *(high - low).tolist()]
    if not isinstance(given, list) or len(given) != 4:
        raise DataError(f"{place}: a bbox is four numbers x, y, width, height, not {shown(given)}")
    return [real_number(value, place, f"bbox[{number}]") for number, value in enumerate(given)]


def _area(each: dict[str, Any], place: str) -> float:
    area = each.get("area")
    if area is None:
        return math.nan  # worked out with the outline, when the image is asked for
    value = real_number(area, place, "area")
    return value if value >= 0 else math.nan


def image_folder(root: Path, split: Split, coco: CocoFile, images: str | None) -> Path:
    """The folder of the images of a label file, see `datamodules.coco_places.find_image_folder`.

    A file whose name states a split has that split's images, whatever it is read for.
    """
    split = split_in(coco.path.stem) or split
    return find_image_folder(root, split, coco.path, [image["file_name"] for image in coco.images], images)
