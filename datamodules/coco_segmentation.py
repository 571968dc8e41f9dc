"""COCO's instances as label maps: every pixel gets the class of the object that lies there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.coco import CocoData
from datamodules.pixel_weights import PixelWeights
from visionkit.augmentation import Augmentation
from visionkit.data import Split
from visionkit.data_summary import SplitSummary
from visionkit.errors import DataError, UsageError
from visionkit.masks import MaskSet, decode_crop, mask_areas
from visionkit.types import IGNORE, Sample


class CocoSegmentationData(CocoData):
    """Label maps of COCO json files: outlines painted over each other, small objects on top of large ones.

    Crowd regions, whose outlines are rough, are ignored where no object lies in them.

    Args:
        root: See `CocoData`.
        labels: See `CocoData`.
        images: See `CocoData`.
        classes: The background and the categories; the categories by rising id by default.
        background: Name of the class where no object lies, the first one; "" leaves such pixels out of loss and metric.
        edge_weight: See `LabelMapData`.
        edge_width: See `LabelMapData`.
        small_objects: See `LabelMapData`.
        augment: Changes training samples.
        **base: See `datamodules.objects.ObjectData`.

    Example:
        >>> data = CocoSegmentationData("coco", input=task.input)
        >>> data.classes[:3]
        ('background', 'person', 'bicycle')
    """

    keeps_crowds = True

    def __init__(
        self,
        root: str,
        *,
        labels: str | None = None,
        images: str | None = None,
        classes: Sequence[str] | None = None,
        background: str = "background",
        edge_weight: float = 0.0,
        edge_width: float = 5.0,
        small_objects: float = 0.0,
        augment: Augmentation | None = None,
        **base: Any,
    ) -> None:
        names = classes or self.discover_classes(root, labels=labels, background=background)
        if background and background not in names:
            raise UsageError(
                f"data.classes: {background!r} (data.background) is not among them; name it there, or give "
                "--data.background '' to leave pixels without an object out"
            )
        super().__init__(root, labels=labels, images=images, classes=names, target="masks", augment=augment, **base)
        self.background, self.background_name = names.index(background) if background else None, background
        weights = PixelWeights(edge_weight, edge_width, small_objects, self.background)
        self.weigh = weights if edge_weight or small_objects else None

    @classmethod
    def discover_classes(
        cls, root: str = "", labels: str | None = None, background: str = "background", **init_args: Any
    ) -> list[str]:
        """The background and the categories of the training file by rising id."""
        found = super().discover_classes(root, labels)
        if background in found:
            raise DataError(
                f"{Path(root)}: a category of the label file is called {background!r} too; give the pixels without an "
                "object another name with --data.background, or '' to leave them out"
            )
        return [background, *found] if background else found

    def summary(self, split: Split) -> SplitSummary:
        """What the label file holds; the background has no objects and is not counted."""
        found = super().summary(split)
        objects = {name: number for name, number in (found.classes or {}).items() if name != self.background_name}
        return replace(found, classes=objects if found.classes is not None else None)

    def dataset(self, split: Split) -> Sequence[Sample]:
        """The images of one split with label maps, painted when they are asked for."""
        weigh = self.weigh if split == "train" else None
        return PaintedMaps(super().dataset(split), len(self.classes), self.background, weigh)


class PaintedMaps(Sequence[Sample]):
    """Samples with masks as samples with label maps.

    Args:
        samples: Samples with `masks`, `labels` and `iscrowd`.
        classes: Number of them.
        background: Label where no object lies; None ignores such pixels.
        weigh: Labels (h, w) to the weight of every pixel, or None.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: int,
        background: int | None,
        weigh: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.samples, self.classes, self.background, self.weigh = samples, classes, background, weigh

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        sample = self.samples[index]
        given: Any = sample.target
        labels = paint(given["masks"], given["labels"], given["iscrowd"], self.background)
        target: dict[str, Any] = {"label_map": labels.astype(np.uint8) if self.classes <= IGNORE else labels}
        if self.weigh is not None:
            target["pixel_weight"] = self.weigh(labels)
        return replace(sample, target=target)


def paint(masks: MaskSet, labels: np.ndarray, crowd: np.ndarray, background: int | None) -> np.ndarray:
    """Objects of one image as a label map.

    Args:
        masks: N of them.
        labels: (N,) their classes.
        crowd: (N,) 1 for regions whose class is ignored.
        background: Label where no object lies; None ignores such pixels.

    Returns:
        (h, w) int64; of two objects the one of the smaller area is seen.
    """
    out = np.full(masks.size, IGNORE if background is None else background, dtype=np.int64)
    values = np.where(np.asarray(crowd) > 0, IGNORE, labels)
    # Crowds first, then from large to small, so that a cup is seen on its table.
    for number in np.lexsort((-mask_areas(masks.rles), np.asarray(crowd) == 0)):
        x1, y1, x2, y2, crop = decode_crop(masks.rles[number])
        out[y1:y2, x1:x2][crop] = values[number]
    return out
