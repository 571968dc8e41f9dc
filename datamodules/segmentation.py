"""Semantic segmentation from folders of pictures and label pngs, and from Pascal VOC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.augment import SampleAugment
from datamodules.class_names import shorten
from datamodules.label_maps import LabelledMaps, LabelReader, LabelStore, read_colours
from datamodules.pictures import FileStore, PixelCache, split_rows
from datamodules.pixel_weights import PixelWeights
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError
from visionkit.listing import SUFFIXES
from visionkit.types import Sample

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


class _PairedData(VisionDataModule):
    """Pictures with label files beside them; a subclass lists the pairs of each split."""

    def __init__(
        self,
        root: str,
        *,
        ignore: Sequence[int],
        cache_mb: int,
        edge_weight: float,
        edge_width: float,
        small_objects: float,
        background: int | None,
        augment: SampleAugment | None,
        colours: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(augment=augment, **base)
        self.root, self.cache_mb, self.ignore, self.colours = Path(root), cache_mb, tuple(ignore), colours
        weights = PixelWeights(edge_weight, edge_width, small_objects, background)
        self.weigh = weights if edge_weight or small_objects else None

    def pairs(self, split: Split) -> list[tuple[Path, Path]]:
        """Picture and label file of every sample of a split, in a fixed order."""
        raise NotImplementedError

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The pictures of one split with their labels, which are read when they are asked for."""
        pairs = self.pairs(split)
        if not pairs:
            return []
        table = read_colours(self.colours) if self.colours else None
        labels = LabelStore([str(label) for _, label in pairs], LabelReader(self.classes, self.ignore, table))
        pictures = FileStore(self.root, [str(picture.absolute()) for picture, _ in pairs])
        rows = np.arange(len(pairs))
        channels = self.input.channels if self.input else 3
        cache = PixelCache.for_pictures(pictures, rows, channels, self.cache_mb)
        kept = None
        if cache is not None and len(self.classes) <= 255:
            kept = PixelCache(len(rows), cache.slot // channels, 1)  # as large as its picture, if nothing is wrong
        return LabelledMaps(pictures, labels, rows, cache, kept, self.weigh if split == "train" else None)


class LabelMapData(_PairedData):
    """Folders of pictures and of label files of the same names.

    Args:
        root: The folder that both are in.
        images: Folder of a split's pictures below it; `{split}` stands for train, val, test.
        labels: Folder of a split's label files.
        ignore: Values of the label files that mean nothing, besides 255.
        colours: For label files in colour, their table: a line `r g b name` each.
        val_fraction: Share of the training pictures that is split off for validation where there is no such folder.
        test_fraction: The same for testing.
        split_seed: Chooses which pictures are split off.
        cache_mb: Decoded pictures are kept in memory where all of a split fit into this many MiB; 0 keeps none.
        edge_weight: Height of U-Net's border map: pixels of the background between two near objects count so much more.
        edge_width: Its width in pixels (sigma).
        small_objects: Exponent by which objects smaller than the average count more; 0 is off, 1 makes every object of
            a picture count alike.
        background: Label between objects, for both; None where there is none.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` left out are read from the table of colours, or from `classes.txt`, a
            name a line, in the folder of labels or above it.

    Example:
        >>> data = LabelMapData("camvid", images="{split}", labels="{split}annot", classes=["sky", "road"], ignore=[11])
    """

    def __init__(
        self,
        root: str,
        *,
        images: str = "images/{split}",
        labels: str = "label_maps/{split}",
        ignore: Sequence[int] = (),
        colours: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        cache_mb: int = 512,
        edge_weight: float = 0.0,
        edge_width: float = 5.0,
        small_objects: float = 0.0,
        background: int | None = 0,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(
            root,
            ignore=ignore,
            cache_mb=cache_mb,
            edge_weight=edge_weight,
            edge_width=edge_width,
            small_objects=small_objects,
            background=background,
            augment=augment,
            colours=colours,
            **base,
        )
        self.images, self.labels = images, labels
        self.split_seed = split_seed
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}
        self.classes = self.classes or tuple(self.discover_classes(root, labels=labels, colours=colours))

    @classmethod
    def discover_classes(
        cls, root: str = "", labels: str = "label_maps/{split}", colours: str | None = None, **init_args: Any
    ) -> list[str]:
        """The names in the table of colours, or in `classes.txt`."""
        if colours:
            return list(read_colours(colours))
        folder = Path(root) / labels.format(split="train")
        for place in (folder, *folder.parents):
            if (place / "classes.txt").is_file():
                return [
                    line.strip() for line in (place / "classes.txt").read_text("utf-8").splitlines() if line.strip()
                ]
            if place == Path(root):
                break
        raise DataError(
            f"{folder}: no classes.txt says what the labels mean; give --data.classes '[name of 0, name of 1, ...]'"
        )

    def pairs(self, split: Split) -> list[tuple[Path, Path]]:
        """Every picture of the split's folder with the label file of its name; or the split's share of `train`."""
        folder = self.root / self.images.format(split=split)
        if folder.is_dir():
            found = self._paired(split)
            shared = [name for name, part in self.fractions.items() if part and self._is_split_off(name)]
            if split != "train" or not shared:
                return found
            return [found[row] for row in self._rows(len(found))["train"]]
        if split == "train" or not self.fractions[split]:
            raise DataError(
                f"{folder}: no such folder of pictures; data.images and data.labels say where they are below data.root"
            )
        found = self._paired("train")
        return [found[row] for row in self._rows(len(found))[split]]

    def _is_split_off(self, split: Split) -> bool:
        return not (self.root / self.images.format(split=split)).is_dir()

    def _rows(self, count: int) -> dict[Split, np.ndarray]:
        wanted = {name: part for name, part in self.fractions.items() if part and self._is_split_off(name)}
        return split_rows(np.zeros(count, dtype=np.int64), wanted, self.split_seed)

    def _paired(self, split: Split) -> list[tuple[Path, Path]]:
        folder, beside = (self.root / each.format(split=split) for each in (self.images, self.labels))
        if not beside.is_dir():
            raise DataError(f"{beside}: no such folder of label files; data.labels says where it is below data.root")
        labels = {path.stem: path for path in sorted(beside.rglob("*")) if path.suffix.lower() in SUFFIXES}
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        without = [path.name for path in pictures if path.stem not in labels]
        if without:
            raise DataError(
                f"{folder}: {len(without)} of {len(pictures)} pictures have no label file of their name in {beside}: "
                f"{shorten(without, 3)}"
            )
        return [(path, labels[path.stem]) for path in pictures]


class VocSegmentationData(_PairedData):
    """Pascal VOC's segmentation: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/{train,val,test}.txt`.

    Args:
        root: The folder `VOC2012`, or whichever holds these.
        train_list: Name of the list that is trained on, such as `trainaug` where it was added.
        ignore: Values that mean nothing, besides 255.
        cache_mb: See `LabelMapData`.
        edge_weight: See `LabelMapData`.
        edge_width: See `LabelMapData`.
        small_objects: See `LabelMapData`.
        augment: Changes training samples.
        **base: See `VisionDataModule`. `classes` left out are VOC's 21 with the background.
    """

    def __init__(
        self,
        root: str,
        *,
        train_list: str = "train",
        ignore: Sequence[int] = (),
        cache_mb: int = 512,
        edge_weight: float = 0.0,
        edge_width: float = 5.0,
        small_objects: float = 0.0,
        augment: SampleAugment | None = None,
        **base: Any,
    ) -> None:
        super().__init__(
            root,
            ignore=ignore,
            cache_mb=cache_mb,
            edge_weight=edge_weight,
            edge_width=edge_width,
            small_objects=small_objects,
            background=0,
            augment=augment,
            **base,
        )
        self.train_list = train_list
        self.classes = self.classes or VOC_CLASSES

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """VOC's 21, whose values are fixed."""
        return list(VOC_CLASSES)

    def pairs(self, split: Split) -> list[tuple[Path, Path]]:
        """The pictures of the split's list."""
        name = self.train_list if split == "train" else split
        listed = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
        try:
            stems = [line.split()[0] for line in listed.read_text("utf-8").splitlines() if line.strip()]
        except OSError:
            if split == "test":  # its labels are not public
                raise DataError(f"{listed}: no such list; VOC's test labels are not public, measure on val") from None
            raise DataError(f"{listed}: no such list; data.root is the folder that holds ImageSets") from None
        pairs = [
            (self.root / "JPEGImages" / f"{stem}.jpg", self.root / "SegmentationClass" / f"{stem}.png")
            for stem in stems
        ]
        missing = [str(path.relative_to(self.root)) for pair in pairs for path in pair if not path.is_file()]
        if missing:
            raise DataError(f"{listed}: {len(missing)} files of this list are missing: {shorten(missing, 3)}")
        return pairs
