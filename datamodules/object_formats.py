"""Which format a data set of objects or keypoints is in: stated by its files, or by an option."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from datamodules.box_csv import CsvBoxData, OpenImagesData
from datamodules.class_names import shorten
from datamodules.coco import CocoData, read_coco
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.coco_places import LABELS, any_label_file
from datamodules.cvat import CvatData
from datamodules.instance_maps import InstanceMapData
from datamodules.labelme import LabelmeData
from datamodules.objects import ObjectData
from datamodules.voc import VocData
from datamodules.yolo import YoloData
from datamodules.yolo_description import YAML, describe, description_in
from datamodules.yolo_pose import YoloPoseData
from visionkit.errors import DataError, UsageError, suggest
from visionkit.listing import list_files, list_folders

FORMATS = ("coco", "voc", "yolo", "cvat", "labelme", "openimages", "csv", "maps")
"""What can be read."""

_HEAD = 1 << 16  # bytes of a file that state what it is
_ENDINGS = frozenset(
    {".json", ".xml", ".csv", ".txt", ".yaml", ".yml", ".data", ".names", ".png", ".jpg", ".jpeg", ".bmp"}
)


def open_objects(
    source: Path, form: str | None = None, labels: str | None = None, images: str | None = None, **base: Any
) -> ObjectData:
    """Opens a data set of objects or keypoints.

    Args:
        source: Its folder, its label file, or the yaml file of a YOLO set.
        form: Its format, one of `FORMATS`; detected by default.
        labels: Where its label files are, if not in the usual locations: a file, or a path below the folder.
        images: Folder of the images below it, if not in the usual locations.
        **base: See `datamodules.objects.ObjectData`; for COCO's keypoints a `skeleton` too.

    Raises:
        UsageError: No such format, or an option that it does not have.
        DataError: Nothing there that looks like one of the formats.
    """
    if form is not None and form not in FORMATS:
        raise UsageError(f"--from {form}: allowed are {', '.join(FORMATS)}{suggest(form, FORMATS)}")
    if labels is not None and Path(labels).is_file():
        labels = str(Path(labels).resolve())
    file = source if source.is_file() else None
    root = source if file is None else source.parent.parent if _is_aside(source.parent) else source.parent
    images = _found_folder(images, root)
    if form is None:
        form = _recognized(root, file or (Path(labels) if labels and Path(labels).is_file() else None), labels)
    if file is not None and labels is None:
        labels = file.relative_to(root).as_posix()
    if "skeleton" in base and form != "coco":
        raise UsageError(f"--skeleton {base['skeleton']}: is for keypoints in COCO's json, and this is {form}")
    if form == "yolo":
        return _yolo(file or (Path(labels) if labels else description_in(root)), root, images, base)
    if form == "coco":
        return _coco(root, labels, images, base)
    given = {key: value for key, value in (("labels", labels), ("images", images)) if value is not None}
    if form == "voc":
        named = {"annotations" if key == "labels" else key: value for key, value in given.items()}
        return VocData(str(root), **named, **base)
    if form == "csv":
        path = labels or _only(root, ".csv")
        inner = {"root": str(root / images)} if images is not None else {}
        return CsvBoxData(path if Path(path).is_absolute() else str(root / path), **inner, **base)
    if form == "labelme":
        if labels is not None:
            raise UsageError("--labels: labelme's json files lie in the folder itself; name that folder as SOURCE")
        return LabelmeData(str(root), **given, **base)
    readers: dict[str, Any] = {"cvat": CvatData, "openimages": OpenImagesData, "maps": InstanceMapData}
    reader: ObjectData = readers[form](str(root), **given, **base)
    return reader


def _is_aside(folder: Path) -> bool:
    """Whether label files lie in a folder of their own, beside the images."""
    return folder.name.lower() in ("annotations", "annotation", "labels") and folder.parent != folder


def _found_folder(images: str | None, root: Path) -> str | None:
    """The folder of the images as it was typed: below the data set, or from here."""
    if images is None or "{split}" in images or (root / images).is_dir() or not Path(images).is_dir():
        return images
    return str(Path(images).resolve())


def _coco(root: Path, labels: str | None, images: str | None, base: dict[str, Any]) -> ObjectData:
    path = any_label_file(root, labels, LABELS)
    keypoints = any(each.get("keypoints") for each in read_coco(path).details.values()) or "skeleton" in base
    return (CocoKeypointData if keypoints else CocoData)(str(root), labels=labels, images=images, **base)


def _yolo(file: Path, root: Path, images: str | None, base: dict[str, Any]) -> ObjectData:
    if images is not None:
        raise UsageError("--images: the yaml file of a YOLO set names its folders of images")
    file = file if file.is_absolute() or file.exists() else root / file
    return (YoloPoseData if describe(file).keypoints else YoloData)(str(file), **base)


def _recognized(root: Path, file: Path | None, labels: str | None) -> str:
    """The format of a label file, or of what lies in a folder."""
    if file is not None:
        form = _of_file(file)
        if form is None:
            raise DataError(f"{file}: its format is not recognized; name it with --from ({', '.join(FORMATS)})")
        return form
    if labels is not None and Path(labels.replace("{split}", "x")).suffix == ".json":
        return "coco"
    listing = list_files(root, _ENDINGS, kind="a known file")
    kinds: Counter[str] = Counter()
    endings: Counter[str] = Counter(path.suffix.lower() for path in listing.files)
    seen: Counter[tuple[Path, str]] = Counter()
    for path in listing.files:
        place = (path.parent, path.suffix.lower())
        seen[place] += 1
        if seen[place] <= 4 and (form := _of_file(path)) is not None:  # a few of each folder state it
            kinds[form] += 1
    for form in ("openimages", "cvat", "voc", "yolo", "coco", "labelme", "csv"):
        if kinds[form]:
            return form
    names = {path.name.lower() for path in list_folders(root)}
    inner = {path.name.lower() for folder in list_folders(root) for path in list_folders(folder)}
    if {"images", "labels"} <= names | inner and endings[".png"] and not endings[".txt"]:
        return "maps"
    what = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5)) or "no files with labels"
    hint = "; YOLO's txt files need the yaml file that names the classes" if endings[".txt"] else ""
    raise DataError(
        f"{root}: not recognized as {', '.join(FORMATS)}; it has {what}, and the folders "
        f"{shorten(sorted(names), 5) or 'none'}{hint}; name the format with --from and the label files with --labels"
    )


def _of_file(path: Path) -> str | None:
    """The format that a file is of, by its ending and its beginning; None where they do not show it."""
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8-sig", "ignore").replace("\0", "")
    except OSError:
        return None
    if suffix == ".json":
        if '"shapes"' in head:
            return "labelme"
        return "coco" if any(f'"{key}"' in head for key in ("annotations", "images", "categories")) else None
    if suffix == ".xml":
        return "cvat" if "<annotations" in head else "voc" if "<annotation" in head else None
    if suffix == ".csv":
        first = head.partition("\n")[0].lower()
        if "imageid" in first and "labelname" in first:
            return "openimages"
        boxes = any(word in first for word in ("xmin", "x1", "x_min", "width")) or first.count(",") == 5
        return "csv" if boxes and "description" not in path.name else None
    if suffix in (*YAML, ".data"):
        return "yolo" if "names" in head and ("train" in head or "val" in head) else None
    return None


def _only(root: Path, suffix: str) -> str:
    found = list_files(root, {suffix}, deep=False).files
    if len(found) != 1:
        there = shorten((path.name for path in found), 3) or "none"
        raise DataError(f"{root}: one {suffix} file is expected there, not {there}; name it with --labels")
    return found[0].name
