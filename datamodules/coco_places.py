"""Where the label files and images of a COCO data set lie: the usual locations, or those that its options name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.class_names import shorten
from datamodules.splits import SPLITS, find_places, find_split, split_in
from visionkit.data import Split
from visionkit.errors import DataError, MissingSplit
from visionkit.listing import list_files, resolve_listed

LABELS = ("annotations/instances_{split}*.json", "annotations/*{split}*.json", "{split}/*.json", "*{split}*.json")
"""Where label files mostly are."""

_IMAGES = ("images/{split}", "{split}/images", "{split}/data", "{split}", "images/default", "images", "data", ".")
_PROBES = 50  # images that are looked for to find their folder


def image_file(folder: Path, image: Mapping[str, Any]) -> str:
    """The path of an image of a COCO file."""
    return str(resolve_listed(folder, image["file_name"]))


def find_image_folder(root: Path, split: Split, path: Path, names: Sequence[str], images: str | None) -> Path:
    """The folder of a split's images.

    Args:
        root: Root of the data set.
        split: Its name.
        path: The label file.
        names: The images that it names.
        images: The folder below `root`, which may have `{split}` in it; looked for in the usual locations by default.

    Raises:
        DataError: The first images are in none of these places.
    """
    if images is not None:
        return (find_split(root, images, split) if "{split}" in images else None) or root / images.replace(
            "{split}", split
        )
    places = [path.parent, *(place for each in _IMAGES for place in find_places(root, each, split)), root]
    for folder in dict.fromkeys(places):
        if not names or any(resolve_listed(folder, name).is_file() for name in names[:_PROBES]):
            return folder
    tried = shorten(dict.fromkeys(map(str, places)))
    raise DataError(
        f"{path}: its image {names[0][:100]!r} is in none of {tried}; name the folder below {root} with --data.images, "
        "with {split} in place of the split"
    )


def label_file(
    root: Path, split: Split, labels: str | None, must: bool = True, usual: Sequence[str] = LABELS
) -> Path | None:
    """The label file of a split, or None.

    Where no file is named after its split, a lone one is that of training, and the other splits are split off it.

    Args:
        root: Root of the data set.
        split: Its name.
        labels: A path below `root`, which may have `{split}` in it and a `*`; without `{split}` it is one file for all
            splits, or for that which its name states. The usual names by default.
        must: It has to be there.
        usual: The usual names.

    Raises:
        DataError: No such folder, several files that fit, or none where one has to be there.
    """
    if not str(root) or not root.is_dir():
        raise DataError(f"{root}: no such folder; give --data.root")
    for pattern in [labels] if labels is not None else usual:
        if "{split}" in pattern or split in ("train", split_in(Path(pattern).stem)):
            found = find_split(root, pattern, split)
            if found is not None:
                return found
    if labels is None and split == "train":
        found = _lone(root)
        if found is not None:
            return found
    if must:
        tried = ", ".join(pattern.replace("{split}", split) for pattern in ([labels] if labels is not None else usual))
        there = shorten((str(each.relative_to(root)) for each in list_files(root, {".json"}).files), 4)
        raise MissingSplit(
            f"{root}: no label file of {split} ({tried}); json files there: {there or 'none'}; give "
            "--data.labels, with {split} in place of the split"
        )
    return None


def any_label_file(root: Path, labels: str | None, usual: Sequence[str] = LABELS) -> Path:
    """The label file of the first split that has one.

    Raises:
        DataError: See `label_file`.
    """
    for split in SPLITS[1:]:
        path = label_file(root, "train", labels, must=False, usual=usual) or label_file(
            root, split, labels, False, usual
        )
        if path is not None:
            return path
    path = label_file(root, "train", labels, usual=usual)
    assert path is not None  # it must be there
    return path


def _lone(root: Path) -> Path | None:
    """The one json there whose name states no split, such as `annotations/instances_default.json`."""
    for folder in (root / "annotations", root / "Annotations", root):
        if folder.is_dir():
            found = [path for path in list_files(folder, {".json"}, deep=False).files if split_in(path.stem) is None]
            if len(found) > 1:
                names = shorten((str(path.relative_to(root)) for path in found), 3)
                raise DataError(f"{root}: {len(found)} json files name no split: {names}; give --data.labels")
            if found:
                return found[0]
    return None
