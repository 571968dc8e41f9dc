"""Which reader a folder or a file of data is for, found out from what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.csv_labels import CsvData
from datamodules.depth_files import DEPTH_SUFFIXES
from datamodules.depth_folders import DepthFolderData
from datamodules.flow_data import FlowData
from datamodules.folders import FolderData, class_folders
from datamodules.identities import IdentityData
from datamodules.image_store import FileStore, StoredImages
from datamodules.instance_maps import InstanceMapData
from datamodules.label_survey import values_of
from datamodules.object_formats import open_objects
from datamodules.record_io import is_record
from datamodules.segmentation import LabelMapData, VocSegmentationData
from datamodules.shard_format import SHARDS
from datamodules.shards import ShardData
from datamodules.splits import SPLITS, find_split, split_folders
from datamodules.stereo_data import StereoData
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import list_files, list_folders, list_images
from visionkit.types import IGNORE

LABEL_MAP_FOLDERS = (
    *(("images/{split}", "label_maps/{split}"), ("{split}", "{split}annot"), ("images/{split}", "masks/{split}")),
    *(("images", "label_maps"), ("images", "masks"), ("images", "labels"), ("{split}/images", "{split}/masks")),
)
"""Where images and label maps usually lie."""


_PROBES = 16


class PlainImages(StoredImages[FileStore]):
    """Images without labels."""

    def target(self, index: int, image: ImageSource) -> Any:
        """Nothing."""
        return {}


class PlainImageData(VisionDataModule):
    """Images of a folder, without labels; folders of splits are splits. It is for an examination, not for training.

    Args:
        root: The folder, searched deeply.
        **base: See `VisionDataModule`.
    """

    def __init__(self, root: str, **base: Any) -> None:
        super().__init__(**base)
        self.root = Path(root)
        splits = split_folders(self.root)
        self._folders: dict[Split, Path] = splits if "train" in splits else {"train": self.root}

    def dataset(self, split: Split) -> Sequence[Any]:
        """The images of one split, by path."""
        if split not in self._folders:
            raise UsageError(f"{self.root}: no {split} split")
        files = list_images(self._folders[split]).files
        store = FileStore(Path(), [str(path) for path in files])
        return PlainImages(store, np.arange(len(files)))


def open_data(source: Path, **splitting: Any) -> VisionDataModule:
    """Opens data by the layout of its folder or the type of its file; splits that it does not name are not made.

    Args:
        source: A folder, an archive, a label file, or the yaml file of a YOLO set.
        **splitting: `val_fraction`, `test_fraction` and `split_seed` of readers that split; none is made by default.

    Raises:
        DataError: Nothing that is known.
    """
    none: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0, **splitting}
    if is_record(source):
        return IdentityData(str(source), **none)
    if source.suffix.lower() == ".zip":
        return FolderData(str(source), cache_mb=0, **none)
    if source.is_file():
        return CsvData(str(source), cache_mb=0, **none) if _has_labels(source) else _objects(source, none)
    if (source / SHARDS).is_file():
        return ShardData(str(source))
    for pattern_images, pattern_labels in LABEL_MAP_FOLDERS:
        if _is_there(source, pattern_images) and _is_there(source, pattern_labels) and not _has_objects(source):
            return _maps(source, pattern_images, pattern_labels, none)
    names = {folder.name.lower() for folder in list_folders(source)}
    if "segmentationclass" in names:
        return VocSegmentationData(str(source), cache_mb=0)
    if {"first", "second", "flow"} <= names:
        return FlowData(str(source), **none)
    if {"left", "right", "disparity"} <= names or any(name.startswith("disp") for name in names):
        return StereoData(str(source), val_every=0)
    if _has_objects(source):
        return _objects(source, none)
    if (depth := _depth(source)) is not None:
        return depth
    tables = [path for path in list_files(source, {".csv"}, deep=False).files if _has_labels(path)]
    if len(tables) == 1:
        return CsvData(str(tables[0]), cache_mb=0, **none)
    return _folders(source, none)


def _maps(source: Path, images: str, labels: str, none: dict[str, Any]) -> VisionDataModule:
    """Label maps, of classes or of the numbers of objects."""
    folder = find_split(source, labels, "train")
    assert folder is not None
    if "{split}" not in labels and not (folder / "classes.txt").is_file() and _are_instances(folder):
        return InstanceMapData(str(source), images=images, labels=labels, cache_mb=0, **none)
    return _label_maps(source, images, labels, none)


def _are_instances(folder: Path) -> bool:
    """Whether each file holds the values 0 to k, and k differs from file to file."""
    files = list_images(folder).files
    values = [values_of([str(path)]) - {0} for path in files[:: max(1, len(files) // _PROBES)]]
    counts = {len(each) for each in values}
    return len(counts) > 1 and max(counts) > 1 and all(each == {*range(1, len(each) + 1)} for each in values)


def _depth(source: Path) -> VisionDataModule | None:
    """Images with depth beside them, where names speak of depth."""
    listing = list_files(source, DEPTH_SUFFIXES)
    if not any("depth" in part.lower() for path in listing.files for part in path.relative_to(source).parts):
        return None
    data = DepthFolderData(str(source), val_every=0, cache_mb=0)
    try:
        return data if len(data.found.store) else None
    except DataError:
        return None


def _label_maps(source: Path, images: str, labels: str, none: dict[str, Any]) -> VisionDataModule:
    """Label maps; where nothing names their classes, these are the values that they hold."""
    try:
        return LabelMapData(str(source), images=images, labels=labels, cache_mb=0, **none)
    except DataError:
        folder = find_split(source, labels, "train")
        assert folder is not None
        files = [str(path) for path in list_images(folder).files]
        values = {f"value {value}": value for value in sorted(values_of(files) - {IGNORE})}
        named: dict[str, Any] = {"values": values, "classes": list(values)}
        return LabelMapData(str(source), images=images, labels=labels, cache_mb=0, **named, **none)


def _objects(source: Path, none: dict[str, Any]) -> VisionDataModule:
    try:
        return open_objects(source, cache_mb=0, **none)
    except DataError as error:
        if source.is_dir() and "json files name no split" in str(error):
            raise DataError(f"{str(error).partition('; give')[0]}; name one of them in place of the folder") from None
        raise


def _has_objects(folder: Path) -> bool:
    """Whether files beside the images name objects: json, xml, YOLO's yaml and txt."""
    listing = list_files(folder, {".json", ".xml", ".yaml", ".yml", ".data"})
    return any(path.name not in ("classes.json", "summary.json") for path in listing.files)


def _has_labels(path: Path) -> bool:
    """Whether a csv has a path and a label, or a path and columns of classes, and no boxes."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = {cell.strip().strip('"').lower() for cell in file.readline().replace(";", ",").split(",")}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return "path" in head and bool(head & {"label", "split"}) and not head & {"xmin", "x1", "x_min", "width"}


def _is_there(root: Path, pattern: str) -> bool:
    found = find_split(root, pattern, "train")
    return found is not None and found.is_dir()


def _folders(source: Path, none: dict[str, Any]) -> VisionDataModule:
    """Class folders, people, or images without labels."""
    splits = split_folders(source)
    try:
        classes = {split: {folder.name for folder in list_folders(path)} for split, path in splits.items()}
        names = class_folders(source)
    except DataError:
        return PlainImageData(str(source))
    others = [classes[split] for split in SPLITS if split != "train" and classes.get(split)]
    if others and not any(each & set(names) for each in others):
        return IdentityData(str(source), cache_mb=0, min_images=1, **none)  # each split has people of its own
    return FolderData(str(source), cache_mb=0, **none)
