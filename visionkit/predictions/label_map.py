"""Which class every pixel belongs to."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from visionkit.predictions.base import Overlay, Prediction
from visionkit.predictions.labels import LabelFacts
from visionkit.types import IGNORE

if TYPE_CHECKING:
    from visionkit.images import ImageLike


class Area(NamedTuple):
    """What one class covers.

    Attributes:
        name: Name of the class.
        pixels: Pixels in file pixels.
        fraction: Fraction of the whole image, in [0, 1].
    """

    name: str
    pixels: int
    fraction: float


@dataclass(frozen=True, eq=False)
class LabelMap(Prediction):
    """A class for every pixel of the file.

    Attributes:
        classes: K class names in label order.
        labels: (h, w) uint8, or uint16 with more than 255 classes; `unknown` where nothing is stated: outside what the
            network saw of the image, or ignored in a truth.
    """

    kind: ClassVar[str] = "label_map"
    label_keys: ClassVar[tuple[str, ...]] = ("label_map",)
    label_rank: ClassVar[int] = 1

    classes: tuple[str, ...]
    labels: np.ndarray

    def __post_init__(self) -> None:
        labels = np.ascontiguousarray(self.labels)
        object.__setattr__(self, "classes", tuple(self.classes))
        if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"a label map is (h, w) uint8 or uint16, not {labels.shape} {labels.dtype}")
        if len(self.classes) > np.iinfo(labels.dtype).max:
            raise ValueError(f"{len(self.classes)} classes do not fit into {labels.dtype}")
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    @property
    def unknown(self) -> int:
        """The label that carries no information: the largest of the array's type."""
        return int(np.iinfo(self.labels.dtype).max)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in file pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    def areas(self) -> list[Area]:
        """The classes that are there, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))[: len(self.classes)]
        order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
        return [Area(self.classes[k], int(counts[k]), float(counts[k] / self.labels.size)) for k in order]

    def png(self, palette: np.ndarray | None = None) -> bytes:
        """The labels themselves as an 8-bit png, or a 16-bit one with more than 255 classes; nothing is lost.

        Args:
            palette: (n, 3) uint8 colors by label, which viewers then show; 16-bit files have none.
        """
        image = Image.fromarray(self.labels)
        if palette is not None and self.labels.dtype == np.uint8:
            colors = np.zeros((256, 3), dtype=np.uint8)
            colors[: len(palette)] = palette[:256]
            image = Image.frombytes("P", self.size[::-1], self.labels.tobytes())
            image.putpalette(colors.tobytes())
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=6)
        return file.getvalue()

    def text(self, top: int = 3) -> str:
        return ", ".join(f"{area.name} {area.fraction:.1%}" for area in self.areas()[: max(top, 5)]) or "no class"

    def nothing(self) -> str:
        return "" if self.areas() else self.text()

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.label_map import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """`.png`: one label per pixel, shown in the colors of the drawing."""
        from visionkit.drawing.colors import palette

        yield stem.with_name(stem.name + ".png"), self.png(palette(len(self.classes)))

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> LabelMap | None:
        labels = np.asarray(target["label_map"]).astype(np.int64)
        known = labels[(labels >= 0) & (labels != IGNORE)]
        most = int(known.max(initial=-1)) + 1
        classes = (*facts.classes, *(f"class {number}" for number in range(len(facts.classes), most)))
        kind = np.uint8 if len(classes) <= np.iinfo(np.uint8).max else np.uint16
        return cls(classes, np.zeros(labels.shape, kind)).truth(target)

    def class_names(self) -> list[str]:
        return [area.name for area in self.areas()]

    def truth(self, target: Mapping[str, Any]) -> LabelMap | None:
        if "label_map" not in target:
            return None
        labels = np.asarray(target["label_map"])
        known = (labels >= 0) & (labels < len(self.classes)) & (labels != IGNORE)
        return LabelMap(self.classes, np.where(known, labels, self.unknown).astype(self.labels.dtype))

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        largest = ", ".join(f"{area.name} {area.fraction:.0%}" for area in self.areas()[:5])
        if not isinstance(truth, LabelMap):
            return {"prediction": largest}
        known = truth.labels != truth.unknown
        right = float((self.labels == truth.labels)[known].mean()) if known.any() else 0.0
        return {"prediction": largest, "pixel_accuracy": right}

    def overlay(self, size: tuple[int, int]) -> Overlay | None:
        if self.labels.dtype != np.uint8:
            return None
        small = Image.fromarray(self.labels).resize(size[::-1], Image.Resampling.NEAREST)
        return Overlay(self.classes, np.asarray(small))

    def to_json(self) -> dict[str, Any]:
        areas = {area.name: {"pixels": area.pixels, "fraction": area.fraction} for area in self.areas()}
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "size": list(self.size),
            "unknown": self.unknown,
            "areas": areas,
            "png": base64.b64encode(self.png()).decode("ascii"),
        }

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> LabelMap:
        with Image.open(io.BytesIO(base64.b64decode(record["png"])), formats=("PNG",)) as image:
            labels = np.asarray(image)
        wide = int(record["unknown"]) > np.iinfo(np.uint8).max
        return cls(tuple(record["classes"]), labels.astype(np.uint16 if wide else np.uint8))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LabelMap):
            return NotImplemented
        return (
            self.classes == other.classes
            and self.labels.dtype == other.labels.dtype
            and bool(np.array_equal(self.labels, other.labels))
        )

    __hash__ = None  # type: ignore[assignment]
