"""Semantic segmentation from folders of images and label pngs, and from Pascal VOC."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from datamodules.class_names import shorten
from datamodules.image_store import FileStore, PixelCache
from datamodules.label_maps import LabeledMaps, LabelReader, LabelStore, LossyLabels, read_colors
from datamodules.label_survey import names_of_binary, survey, values_of_binary, warn_of_one_class
from datamodules.pairing import NamePattern, pair_by_name
from datamodules.pixel_weights import PixelWeights
from datamodules.splits import SPLITS, find_split
from datamodules.splitting import SplittingData
from visionkit.augmentation import Augmentation
from visionkit.data import Split, VisionDataModule
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError, suggest
from visionkit.listing import list_folders, list_images, resolve_listed
from visionkit.names import checked_name
from visionkit.text_files import read_lines
from visionkit.types import Sample

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_IMAGES = "images/{split}"


@dataclass(frozen=True)
class LabeledFiles:
    """Images and label files of a split, in a fixed order.

    Attributes:
        pairs: Paths of image and label file.
        source: Where they come from.
        passed_over: Number of files that were left out, by reason.
    """

    pairs: Sequence[tuple[Path, Path]]
    source: str
    passed_over: Mapping[str, int]


class PairedData(VisionDataModule):
    """Images with label files beside them; a subclass lists the pairs of each split.

    Args:
        root: The folder that both are in.
        ignore: Values of the label files that mean nothing, besides 255.
        cache_mb: Decoded images are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        edge_weight: Height of U-Net's border map: pixels of the background between two near objects count so much more.
        edge_width: Its width in pixels (sigma).
        small_objects: Exponent by which objects smaller than the average count more; 0 is off, 1 makes every object of
            an image count alike.
        background: Label between objects, for both; None where there is none.
        augment: Changes training samples.
        **base: See `VisionDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        ignore: Sequence[int] = (),
        cache_mb: int = 512,
        edge_weight: float = 0.0,
        edge_width: float = 5.0,
        small_objects: float = 0.0,
        background: int | None = 0,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.root, self.cache_mb, self.ignore = Path(root), cache_mb, tuple(ignore)
        weights = PixelWeights(edge_weight, edge_width, small_objects, background)
        self.weigh = weights if edge_weight or small_objects else None
        self._listed: dict[Split, LabeledFiles] = {}
        self._reader: LabelReader | None = None
        self._note = ""
        """What the summary states about the meaning of the values, where that is not plain."""

    def find(self, split: Split) -> LabeledFiles:
        """Image and label file of every sample of a split; called once per split."""
        raise NotImplementedError

    def make_reader(self, split: Split) -> LabelReader:
        """What turns the label files into classes, for a split that is there; called once."""
        return LabelReader(self.classes, self.ignore)

    def listed(self, split: Split) -> LabeledFiles:
        """The files of a split, kept after the first call."""
        if split not in self._listed:
            self._listed[split] = self.find(split)
        return self._listed[split]

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split with their labels, which are read when they are asked for."""
        pairs = self.listed(split).pairs
        if not pairs:
            return []
        self._reader = self._reader or self.make_reader(split)
        labels = LabelStore([str(label.absolute()) for _, label in pairs], self._reader)
        images = FileStore(self.root, [str(image.absolute()) for image, _ in pairs])
        rows = np.arange(len(pairs))
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_images(images, rows, channels, self.cache_mb)
        kept = None
        if cache is not None and len(self.classes) <= 255:
            kept = PixelCache(len(rows), cache.slot // channels, 1)  # as large as its image, if nothing is wrong
        return LabeledMaps(images, labels, rows, cache, kept, self.weigh if split == "train" else None)

    def summary(self, split: Split) -> SplitSummary:
        """Label maps in which each class occurs, and the fraction of every class among the pixels."""
        samples: Any = self.samples(split)
        listed = self.listed(split)
        found = survey(samples, len(self.classes), f"{listed.source}, {split}")
        if split == "train" or found.ignored:
            warn_of_one_class(found, self.classes, listed.source)
        # Of a part of a large set, nothing is stated about classes that did not occur.
        known = {
            name: int(number)
            for name, number in zip(self.classes, found.maps, strict=True)
            if number or found.read == found.files
        }
        return SplitSummary(
            *(split, len(samples), listed.source, known),
            unit="image",
            unlabeled=found.empty,
            passed_over=listed.passed_over,
            notes=found.notes(self.classes),
        )

    def common_notes(self) -> Sequence[str]:
        """What the values 0 and 255 were taken for."""
        return [self._note] if self._note else []


class LabelMapData(PairedData, SplittingData):
    """Folders of images and of label files with the same paths below them.

    Args:
        root: The folder that both are in.
        images: Folder of the images of a split below it. `{split}` stands for train, val and test, whichever word the
            folders have for them (`valid`, `testing`); without it, one folder whose images are split by fraction.
        labels: Folder of the label files, in the same way.
        colors: For label files in color, their table: a line `r g b name` each.
        values: Value, or list of values, of each class in the label files, where these are not 0, 1, 2, ...:
            `{background: 0, road: 255}`.
        label_offset: Value of the first class; 1 where the labels start at 1. Smaller values are ignored.
        image_names: How the images are called, `*` for what an image and its label file share: `*_leftImg8bit.png`.
        label_names: How the label files are called: `*_mask`, `*_mask.png`, `*.png`.
        lossy_labels: `refuse` label files in JPEG, whose compression changes the values, or take the `nearest` value of
            each pixel; that needs values that lie far apart, such as 0 and 255.
        **base: Arguments of all readers of label files (`ignore`, `edge_weight`, ...) and of `SplittingData`. `classes`
            left out are read from `values`, from the table of colors, or from `classes.txt`, one name per line, in the
            folder of labels or above it.

    Example:
        >>> data = LabelMapData("camvid", images="{split}", labels="{split}annot", classes=["sky", "road"], ignore=[11])
    """

    def __init__(
        self,
        root: str,
        *,
        images: str = _IMAGES,
        labels: str = "label_maps/{split}",
        colors: str | None = None,
        values: dict[str, int | list[int]] | None = None,
        label_offset: int = 0,
        image_names: str = "*",
        label_names: str = "*",
        lossy_labels: LossyLabels = "refuse",
        **base: Any,
    ) -> None:
        super().__init__(root, **base)
        self.images, self.labels = images, labels
        self.image_names = NamePattern(image_names, "data.image_names")
        self.label_names = NamePattern(label_names, "data.label_names")
        self.colors, self.values, self.label_offset = colors, values, label_offset
        if lossy_labels not in get_args(LossyLabels):
            allowed = get_args(LossyLabels)
            raise UsageError(
                f"data.lossy_labels {lossy_labels!r}: allowed are {', '.join(allowed)}{suggest(lossy_labels, allowed)}"
            )
        if sum((bool(colors), values is not None, label_offset != 0)) > 1 or label_offset < 0:
            raise UsageError(
                "data: give one of colors, values and label_offset (at least 0), which all state what labels mean"
            )
        self.lossy_labels: LossyLabels = lossy_labels
        self.classes = self.classes or tuple(self.discover_classes(root, labels, colors, values, label_names))

    @classmethod
    def discover_classes(
        cls,
        root: str = "",
        labels: str = "label_maps/{split}",
        colors: str | None = None,
        values: Mapping[str, Any] | None = None,
        label_names: str = "*",
        **init_args: Any,
    ) -> list[str]:
        """The names in the mapping of values, in the table of colors, or in `classes.txt`; those of binary masks."""
        if colors:
            return list(read_colors(colors))
        if (folder := find_split(Path(root), labels, "train")) is None:
            raise _no_folder(Path(root), "train", labels, init_args.get("images", _IMAGES))
        for place in (folder, *folder.parents):
            if (place / "classes.txt").is_file():
                file = place / "classes.txt"
                lines = read_lines(file, "list of classes")
                return [checked_name(line, f"{file} line {number}", "class name") for number, line in lines]
            if place == Path(root):
                break
        if values:
            return list(values)
        listing = NamePattern(label_names, "data.label_names").select(list_images(folder))
        return names_of_binary([str(path) for path in listing.files], str(folder))

    def make_reader(self, split: Split) -> LabelReader:
        """The reader of all splits; where values are not given, the training labels decide what 255 means."""
        table = read_colors(self.colors) if self.colors else None
        reader = LabelReader(self.classes, self.ignore, table, self.values, self.label_offset, self.lossy_labels)
        deciding = self.listed(split)
        with contextlib.suppress(DataError):  # to be measured alone, a set needs no training labels
            deciding = self.listed("train")
        values, self._note = values_of_binary(reader, [str(label) for _, label in deciding.pairs], deciding.source)
        return reader if values is None else LabelReader(self.classes, self.ignore, values=values, lossy=reader.lossy)

    def find(self, split: Split) -> LabeledFiles:
        """Every image of the split's folder with the label file of its path; or the split's fraction of `train`."""
        absent = self.absent([name for name in SPLITS if self._folder(self.images, name)])
        if split != "train" and self._folder(self.images, split) is not None:
            return self._paired(split)
        if split not in ("train", *absent):
            looked = f"{self.root / self.images.format(split=split)} (data.images)"
            # One folder for all splits is there, and holds the training images.
            raise self.missing(split, f"{looked}: no such folder" if "{split}" in self.images else looked)
        found = self._paired("train")
        rows = self.split_off([str(image) for image, _ in found.pairs], absent)[split]
        pairs = [found.pairs[row] for row in rows]
        if split == "train":
            return LabeledFiles(pairs, found.source, found.passed_over)
        return LabeledFiles(pairs, self.part_of(split, found.source), {})

    def _folder(self, pattern: str, split: Split) -> Path | None:
        """Where the files of a split are; a pattern without `{split}` names the folder that is split by fraction."""
        if "{split}" not in pattern and split != "train":
            return None
        found = find_split(self.root, pattern, split)
        return found if found is not None and found.is_dir() else None

    def _paired(self, split: Split) -> LabeledFiles:
        folder, beside = self._folder(self.images, split), self._folder(self.labels, split)
        if folder is None or beside is None:
            raise _no_folder(self.root, split, self.labels, self.images)
        images = self.image_names.select(list_images(folder))
        if beside == folder and not self.label_names.is_any:
            images = self.label_names.select(images, others=True)
        labels = self.label_names.select(list_images(beside))
        pairs, alone = pair_by_name(
            *(images, labels, "label file", self.image_names.key, self.label_names.key), ("image_names", "label_names")
        )
        over = images.counts | ({"label files without an image": len(alone)} if alone else {})
        return LabeledFiles(pairs, str(folder), over)


def _no_folder(root: Path, split: Split, labels: str, images: str) -> DataError:
    """Which folders lack, the options that name them, and the folders that are there."""
    lacking = []
    for option, pattern, what in (("labels", labels, "label files"), ("images", images, "images")):
        found = find_split(root, pattern, split)
        if found is None or not found.is_dir():
            place = root / pattern.format(split=split)
            lacking.append(f"{place}: no such folder of {what}; --data.{option} states where it is below data.root")
    there = [f"{folder.name}/" for folder in list_folders(root)] if root.is_dir() else []
    return DataError("; ".join([*lacking, *([f"folders there: {shorten(there, 8)}"] if there else [])]))


class VocSegmentationData(PairedData):
    """Pascal VOC's segmentation: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/{train,val,test}.txt`.

    Args:
        root: The folder `VOC2012`, or whichever holds these.
        train_list: Name of the list that is trained on, such as `trainaug` where it was added.
        **base: See `LabelMapData`. `classes` left out are VOC's 21 with the background.
    """

    def __init__(self, root: str, *, train_list: str = "train", **base: Any) -> None:
        super().__init__(root, background=0, **base)
        self.train_list = train_list
        self.classes = self.classes or VOC_CLASSES

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """VOC's 21, whose values are fixed."""
        return list(VOC_CLASSES)

    def find(self, split: Split) -> LabeledFiles:
        """The images of the split's list."""
        name = self.train_list if split == "train" else split
        listed = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
        if not listed.is_file():
            if split == "test":  # its labels are not public
                raise DataError(f"{listed}: no such list; VOC's test labels are not public, measure on val")
            raise DataError(f"{listed}: no such list; data.root is the folder that holds ImageSets")
        stems = [line for _, line in read_lines(listed)]
        images, labels = self.root / "JPEGImages", self.root / "SegmentationClass"
        pairs = [(_named(images, stem, (".jpg", ".jpeg", ".png")), _named(labels, stem, (".png",))) for stem in stems]
        missing = [str(path.relative_to(self.root)) for pair in pairs for path in pair if not path.is_file()]
        if missing:
            raise DataError(f"{listed}: {len(missing)} files of this list are missing: {shorten(missing, 3)}")
        return LabeledFiles(pairs, str(listed), {})


def _named(folder: Path, stem: str, endings: Sequence[str]) -> Path:
    """The file of a list that has one of some endings; the first of them where none is there."""
    found = (resolve_listed(folder, stem + ending) for ending in endings)
    return next((path for path in found if path.is_file()), folder / f"{stem}{endings[0]}")
