"""How far every pixel is."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.labels import LabelFacts

if TYPE_CHECKING:
    from visionkit.camera import CameraIntrinsics
    from visionkit.images import ImageLike

_STEPS = (1e-5, 1e-4, 1e-3, 1 / 256, 1e-2, 0.1)
"""Meters to one of 65,535 numbers: the finest whose range holds the map; 1/256 is what KITTI's files have."""

_MOST = 65535


@dataclass(frozen=True, eq=False)
class DepthMap(Prediction):
    """Depth at every pixel of the file.

    Two maps are equal where their 16-bit codes are: finer digits are noise of whatever computed them.

    Attributes:
        values: (h, w) float32, meters along the camera's axis; where not `metric`, inverse depth up to an unknown scale
            and shift: larger is nearer. 0 is not known: not measured, or outside what the network saw.
        metric: Values are meters.
        bounds: Nearest and farthest that can be stated at all, in meters, or None.
        shown: The range that a drawing spreads its colors over, where it shall not be the map's own.
    """

    kind: ClassVar[str] = "depth_map"
    label_keys: ClassVar[tuple[str, ...]] = ("depth",)
    label_rank: ClassVar[int] = 1

    values: np.ndarray
    metric: bool = True
    bounds: tuple[float, float] | None = None
    shown: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"a depth map is (h, w), not {values.shape}")
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0:  # NaN spreads through minimum and maximum
            raise ValueError("a depth map holds finite values from 0 on; 0 is not known")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        for name in ("bounds", "shown"):
            pair = getattr(self, name)
            object.__setattr__(self, name, None if pair is None else (float(pair[0]), float(pair[1])))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in file pixels."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def known(self) -> np.ndarray:
        """(h, w) bool, where depth is known."""
        return self.values > 0

    @property
    def step(self) -> float:
        """What one step of `codes` is worth: meters, or of no unit."""
        most = float(self.values.max())
        if not self.metric:
            return most / _MOST or 1.0
        reach = max(most, self.bounds[1] if self.bounds else 0.0)
        return next((step for step in _STEPS if reach <= _MOST * step), reach / _MOST)

    @property
    def codes(self) -> np.ndarray:
        """(h, w) uint16, values in units of `step`; what is known is at least 1."""
        return codes_of(self.values, self.step)

    def limits(self, fraction: float = 0.01) -> tuple[float, float]:
        """The range of what is known, without that fraction of outliers on either side; (0, 1) where nothing is."""
        values = self.values[self.known]
        if not len(values):
            return 0.0, 1.0
        if len(values) > 1 << 18:  # a sample states as much
            values = values[:: len(values) >> 17]
        low, high = np.quantile(values, [fraction, 1 - fraction])
        return float(low), float(high)

    def summary(self) -> dict[str, Any]:
        """The record without the map: nearest, median and farthest known value, the fraction of the image known, ..."""
        values = self.values[self.known]
        facts: dict[str, float | None] = {"min": None, "median": None, "max": None}
        if len(values):
            facts = {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}
        return {
            "kind": self.kind,
            "metric": self.metric,
            "unit": "m" if self.metric else None,
            "size": list(self.size),
            "bounds": list(self.bounds) if self.bounds else None,
            **facts,
            "known": len(values) / self.values.size,
            "step": self.step,
        }

    def text(self, top: int = 3) -> str:
        facts = self.summary()
        if facts["median"] is None:
            return "no depth"
        if not self.metric:
            return "relative depth, from near to far"
        return f"{facts['min']:.2f} to {facts['max']:.2f} m, half of it nearer than {facts['median']:.2f} m"

    def difference(self, other: Prediction) -> Difference:
        """Largest difference as a part of the largest value; the same where the median pixel is within 1 %."""
        assert isinstance(other, DepthMap)
        apart = np.abs(self.values - other.values)
        most = max(float(self.values.max()), 1e-12)
        same = bool(np.median(apart / np.maximum(self.values, 1e-12)) <= 0.01)
        return Difference(float(apart.max()) / most, same)

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.depth_map import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """`.png`: 16 bit, millimeters, see `png`; `.npy`: float32 meters."""
        yield stem.with_name(stem.name + ".png"), self.png()
        yield stem.with_name(stem.name + ".npy"), self.npy()

    def points(self, image: ImageLike, camera: CameraIntrinsics) -> bytes | None:
        if not self.metric:
            return None
        from visionkit.camera import ply, point_cloud
        from visionkit.images import read_image

        return ply(*point_cloud(self.values, read_image(image), camera))

    def png(self) -> bytes:
        """A 16-bit gray png: millimeters, 0 where nothing is known.

        What is farther than 65.535 m does not fit into millimeters: such a map is in 1/256 m, as KITTI's are, and a
        relative one in 65,535 steps of its largest value. The file's text `unit` states which.
        """
        step = self.png_step
        note = f"{step:.10g} m" if self.metric else "relative inverse depth"
        return gray_png(codes_of(self.values, step), note)

    @property
    def png_step(self) -> float:
        """What one step of `png` is worth in meters; of a relative map, in its own unit."""
        if not self.metric:
            return self.step
        most = float(self.values.max())
        return next((step for step in _STEPS[2:] if most <= _MOST * step), most / _MOST)

    def npy(self) -> bytes:
        """The `.npy` file of `values`, float32 meters."""
        file = io.BytesIO()
        np.save(file, self.values, allow_pickle=False)
        return file.getvalue()

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> DepthMap | None:
        found = cls(np.zeros((1, 1), np.float32)).truth(target)
        return None if found is None else replace(found, shown=None)

    def truth(self, target: Mapping[str, Any]) -> DepthMap | None:
        """The measured depth, drawn on the scale of this map where both are meters."""
        if "depth" not in target:
            return None
        values = np.nan_to_num(np.asarray(target["depth"], dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return DepthMap(np.maximum(values, 0), bounds=self.bounds, shown=self.limits() if self.metric else None)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        facts = self.summary()
        median = facts["median"]
        row: dict[str, str | float | bool] = {} if median is None else {"median": median}
        if not (isinstance(truth, DepthMap) and truth.metric and self.metric and truth.size == self.size):
            return row
        both = truth.known & self.known
        if both.any():
            ours, real = self.values[both].astype(np.float64), truth.values[both].astype(np.float64)
            row["abs_rel"] = float((np.abs(ours - real) / real).mean())
            row["delta1"] = float((np.maximum(ours / real, real / ours) < 1.25).mean())
        return row

    def to_json(self) -> dict[str, Any]:
        """`png` is a 16-bit png in base64; a value is its number times `step`, which is at most a 65,535th of all."""
        return {**self.summary(), "png": base64.b64encode(gray_png(self.codes)).decode("ascii")}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> DepthMap:
        codes = read_gray_png(io.BytesIO(base64.b64decode(record["png"])))
        bounds = record["bounds"]
        values = (codes * float(record["step"])).astype(np.float32)
        return cls(values, bool(record["metric"]), (bounds[0], bounds[1]) if bounds else None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DepthMap):
            return NotImplemented
        same = (self.metric, self.bounds, self.size) == (other.metric, other.bounds, other.size)
        return same and bool(np.isclose(self.step, other.step)) and bool(np.array_equal(self.codes, other.codes))

    __hash__ = None  # type: ignore[assignment]


def codes_of(values: np.ndarray, step: float) -> np.ndarray:
    """Values in steps as uint16; 0 stays 0, and everything above it is at least 1."""
    numbers = np.clip(np.rint(values / np.float64(step)), 1, _MOST)
    return np.where(values > 0, numbers, 0).astype(np.uint16)


def read_gray_png(file: io.BytesIO) -> np.ndarray:
    """The codes that `gray_png` has written, as float64."""
    with Image.open(file, formats=("PNG",)) as image:
        return np.asarray(image).astype(np.float64)


def gray_png(codes: np.ndarray, unit: str = "") -> bytes:
    """A gray png of (h, w) uint16 codes, with their unit as a text."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    if unit:
        text.add_text("unit", unit)
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "PNG", compress_level=4, pnginfo=text)
    return file.getvalue()
