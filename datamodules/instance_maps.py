"""Instance label maps: beside each picture a png of the same name whose values are the numbers of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.class_names import shorten
from datamodules.objects import Entry, ObjectData, ObjectTarget
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.images import MAX_PIXELS
from visionkit.listing import SUFFIXES
from visionkit.masks import encode_labels, mask_areas, mask_boxes


class InstanceMapData(ObjectData):
    """Pictures of one class with every object outlined in a label map of 8 or 16 bits: 0 background, k object k.

    The layout is `root/images/*` and `root/labels/*.png`, or both inside `root/train`, `root/val`, `root/test`.

    Args:
        root: The folder.
        images: Name of the folder of pictures.
        labels: Name of the folder of label maps.
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
        min_area: int = 1,
        target: ObjectTarget = "masks",
        **base: Any,
    ) -> None:
        super().__init__(target=target, **base)
        self.root, self.folders, self.min_area = Path(root), (images, labels), min_area
        self.classes = self.classes or ("object",)
        if len(self.classes) != 1:
            raise UsageError(
                f"data.classes: a label map numbers objects of one class, not of {len(self.classes)}; give one name"
            )

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def discover_classes(cls, **init_args: Any) -> list[str]:
        """`object`: the maps do not name what they show; give `data.classes` to name it."""
        return ["object"]

    def read(self, split: Split) -> list[Entry] | None:
        images, labels = self.folders
        folder = self.root / split
        if not (folder / images).is_dir():
            if split != "train":
                return None
            folder = self.root
        for name in (images, labels):
            if not (folder / name).is_dir():
                raise DataError(f"{folder / name}: no such folder; --data.images and --data.labels name them")
        pictures = sorted(path for path in (folder / images).iterdir() if path.suffix.lower() in SUFFIXES)
        maps = {path.stem: path for path in sorted((folder / labels).iterdir()) if path.suffix.lower() in SUFFIXES}
        _match(pictures, maps, folder / labels)
        return [self._entry(path, maps[path.stem]) for path in pictures]

    def mixture(self, entries: list[Entry]) -> np.ndarray:  # type: ignore[override]
        """Pictures of one size mostly come from one experiment: every split shall have its share of each."""
        sizes = [entry.size or (0, 0) for entry in entries]
        return np.unique(np.array(sizes).reshape(-1, 2), axis=0, return_inverse=True)[1].reshape(-1)

    def _entry(self, picture: Path, path: Path) -> Entry:
        values = read_label_map(path)
        _, rles = encode_labels(values)
        areas = mask_areas(rles)
        kept = [rle for rle, area in zip(rles, areas, strict=True) if area >= self.min_area]
        return Entry(
            file=str(picture),
            place=str(path),
            boxes=mask_boxes(kept).astype(np.float64),
            labels=np.zeros(len(kept), dtype=np.int64),
            size=(values.shape[0], values.shape[1]),
            area=areas[areas >= self.min_area].astype(np.float64),
            segments=list(kept),
        )


def read_label_map(path: Path) -> np.ndarray:
    """(h, w) whole numbers of a one-channel picture, as they are in the file.

    Raises:
        DataError: Missing, too large, no picture, or with colours.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: {image.width} x {image.height} pixels are over the limit of {MAX_PIXELS}")
            if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
                raise DataError(f"{path}: a label map has one channel of whole numbers, this one is {image.mode}")
            values = np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such label map") from None
    except DataError:
        raise
    except Exception as error:  # a damaged file makes Pillow's plug-ins raise nearly anything
        raise DataError(f"{path}: cannot be read as a label map ({error})") from None
    return values.astype(np.int64) if values.dtype == bool else values


def _match(pictures: list[Path], maps: dict[str, Path], folder: Path) -> None:
    if not pictures:
        raise DataError(f"{folder.parent}: no pictures there")
    without = [path.name for path in pictures if path.stem not in maps]
    if without:
        raise DataError(
            f"{folder}: {len(without)} of {len(pictures)} pictures have no label map: {shorten(without, 3)}"
        )
    stems = {path.stem for path in pictures}
    alone = [path.name for stem, path in maps.items() if stem not in stems]
    if alone:
        raise DataError(f"{folder}: {len(alone)} label maps have no picture: {shorten(alone, 3)}")
