"""Instance label maps: beside each image a file of the same path whose values are the numbers of objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from datamodules.class_names import shorten
from datamodules.label_maps import LossyLabels, whole_values
from datamodules.object_entries import AnnotatedImage
from datamodules.objects import ObjectData, ObjectTarget
from datamodules.pairing import NamePattern, check_same_size, pair_by_name
from datamodules.splits import find_split
from datamodules.value_files import gray, read_values
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageSource
from visionkit.listing import list_images
from visionkit.masks import encode_labels, mask_areas, mask_boxes

log = logging.getLogger(__name__)

_PROBES = 512
_THRESHOLD = 128  # of masks in lossy files


class InstanceMapData(ObjectData):
    """Images of one class with every object outlined in a label map of 8 or 16 bits: 0 background, k object k.

    The layout is `root/images/*` and `root/labels/*.png`, or both inside `root/train`, `root/val`, `root/test`, or
    `root/images/train` and `root/labels/train`. Splits may be called `valid`, `testing` and the like.

    Binary masks, which number no objects, are recognized: every connected part is an object of its own then.

    Args:
        root: The folder.
        images: Name of the folder of images.
        labels: Name of the folder of label maps.
        label_names: How the label maps are called, `*` for the name of their image: `*_mask`, `*.png`.
        parts: Every connected part of a value is an object. By default, that is so where no label map of the training
            images has two values beside 0, and all have the same one.
        lossy_labels: `refuse` label maps in JPEG, whose compression makes objects of its noise, or take the `nearest`
            of 0 and 255, for binary masks.
        min_area: Objects of fewer pixels are left out; specks of an annotation.
        target: `masks`, or `boxes` for detection.
        **base: See `datamodules.objects.ObjectData`. `classes` is one name.

    Example:
        >>> data = InstanceMapData("nuclei", classes=["nucleus"], test_fraction=0.2)
        >>> data.samples("train")[0].target["masks"].shape
        (31, 256, 256)
    """

    def __init__(
        self,
        root: str,
        *,
        images: str = "images",
        labels: str = "labels",
        label_names: str = "*",
        parts: bool | None = None,
        lossy_labels: LossyLabels = "refuse",
        min_area: int = 1,
        target: ObjectTarget = "masks",
        **base: Any,
    ) -> None:
        super().__init__(target=target, **base)
        if lossy_labels not in get_args(LossyLabels):
            allowed = get_args(LossyLabels)
            raise UsageError(
                f"data.lossy_labels {lossy_labels!r}: allowed are {', '.join(allowed)}{suggest(lossy_labels, allowed)}"
            )
        self.root, self.folders, self.min_area = Path(root), (images, labels), min_area
        self.label_names = NamePattern(label_names, "data.label_names")
        self.parts, self.lossy_labels = parts, lossy_labels
        self.classes = self.classes or ("object",)
        if len(self.classes) != 1:
            raise UsageError(
                f"data.classes: a label map numbers objects of one class, not of {len(self.classes)}; give one name"
            )

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """`object`: the maps do not name what they show; give `data.classes` to name it."""
        return ["object"]

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        places = self._places(split)
        if places is None:
            return None
        for place in places:
            if not place.is_dir():
                raise DataError(f"{place}: no such folder; --data.images and --data.labels name them")
        images = list_images(places[0])
        maps = self.label_names.select(list_images(places[1]))
        if not images.files:
            raise DataError(f"{places[0]}: no images there")
        pairs, alone = pair_by_name(
            images, maps, "label map", partner_key=self.label_names.key, options=("", "label_names")
        )
        if alone:
            names = [path.name for path in alone]
            raise DataError(f"{places[1]}: {len(alone)} label maps have no image: {shorten(names, 3)}")
        if self.parts is None:
            train = self._places("train") if split != "train" else None
            deciding = [path for _, path in pairs]
            if train is not None and train[1].is_dir():
                deciding = self.label_names.select(list_images(train[1])).files
            self.parts = self._numbers_nothing(deciding, places[1])
        self.note(split, places[0], images.counts)
        return [self._entry(image, path) for image, path in pairs]

    def mixture(self, entries: Sequence[AnnotatedImage]) -> np.ndarray:
        """Images of one size mostly come from one experiment: every split shall have its fraction of each."""
        sizes = [entry.size or (0, 0) for entry in entries]
        return np.unique(np.array(sizes).reshape(-1, 2), axis=0, return_inverse=True)[1].reshape(-1)

    def _places(self, split: Split) -> tuple[Path, Path] | None:
        """The folders of images and of label maps of a split; None where it has none."""
        images, labels = self.folders
        for pattern in (f"{{split}}/{images}", f"{images}/{{split}}"):
            found = find_split(self.root, pattern, split)
            if found is not None and found.is_dir():
                place = found.parent / labels if found.name == Path(images).name else self.root / labels / found.name
                return found, place
        return (self.root / images, self.root / labels) if split == "train" else None

    def _numbers_nothing(self, paths: Sequence[Path], folder: Path) -> bool:
        """Whether label maps are binary masks, in which objects have no numbers."""
        found: set[int] = set()
        several = 0
        for place in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _PROBES)).astype(int)):
            values = self._values(paths[place])
            found |= set(np.unique(values).tolist()) - {0}
            if len(found) > 1:
                return False
            several += _connected(values).max(initial=0) > 1
        if not several:
            return False
        log.warning(
            "%s: the label maps are binary masks (0 and %d), so every connected part is an object and objects that "
            "touch are one; --data.parts false takes each mask for one object",
            *(folder, next(iter(found))),
        )
        return True

    def _values(self, path: Path) -> np.ndarray:
        values, lossy = read_values(path, "label map")
        values = gray(values, lossy)
        if values.ndim != 2:
            raise DataError(f"{path}: a label map has one channel of whole numbers, this one has colors")
        if lossy and self.lossy_labels != "nearest":
            raise DataError(
                f"{path}: a label map in {lossy}, whose compression makes objects of its noise; give the png files it "
                "was made of, or, of binary masks, take the nearest of 0 and 255 with --data.lossy_labels nearest"
            )
        return (values >= _THRESHOLD) * np.uint8(255) if lossy else whole_values(values, path)

    def _entry(self, image: Path, path: Path) -> AnnotatedImage:
        values = self._values(path)
        check_same_size(ImageSource(image), values.shape, str(path), "label map")
        _, rles = encode_labels(_connected(values) if self.parts else values)
        areas = mask_areas(rles)
        kept = [rle for rle, area in zip(rles, areas, strict=True) if area >= self.min_area]
        return AnnotatedImage(
            file=str(image),
            place=str(path),
            boxes=mask_boxes(kept).astype(np.float64),
            labels=np.zeros(len(kept), dtype=np.int64),
            size=(values.shape[0], values.shape[1]),
            area=areas[areas >= self.min_area].astype(np.float64),
            segments=list(kept),
        )


def _connected(values: np.ndarray) -> np.ndarray:
    """Numbers of the connected parts of equal values, (h, w) int; neighbors at corners count."""
    from skimage.measure import label

    return np.asarray(label(values, background=0, connectivity=2))
