"""How far every pixel of the left image of a rectified pair lies from the same point in the right one."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.errors import UsageError
from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.depth_map import DepthMap, codes_of, gray_png, read_gray_png
from visionkit.predictions.labels import LabelFacts

if TYPE_CHECKING:
    from visionkit.camera import CameraIntrinsics
    from visionkit.images import ImageLike

KITTI_STEP = 1 / 256
"""Pixels that one step of KITTI's 16-bit files is worth."""

_MOST = 65535


@dataclass(frozen=True, eq=False)
class DisparityMap(Prediction):
    """Disparity at every pixel of the left file: the right image shows the point at x - disparity.

    Two maps are equal where their 16-bit codes are: finer digits are noise of whatever computed them.

    Attributes:
        values: (h, w) float32, pixels of the file; 0 is not known.
    """

    kind: ClassVar[str] = "disparity_map"
    label_keys: ClassVar[tuple[str, ...]] = ("disparity",)
    label_rank: ClassVar[int] = 1

    values: np.ndarray

    def __post_init__(self) -> None:
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"a disparity map is (h, w), not {values.shape}")
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
            raise ValueError("a disparity map holds finite values from 0 on; 0 is not known")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in file pixels."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def known(self) -> np.ndarray:
        """(h, w) bool, where disparity is known."""
        return self.values > 0

    @property
    def step(self) -> float:
        """Pixels that one step of `codes` is worth: the finest power of two whose range holds the map."""
        most, step = float(self.values.max()), 2.0**-12
        while most > _MOST * step:
            step *= 2
        return step

    @property
    def codes(self) -> np.ndarray:
        """(h, w) uint16, values in units of `step`; what is known is at least 1."""
        return codes_of(self.values, self.step)

    def depth(self, camera: CameraIntrinsics, baseline: float, offset: float = 0.0) -> DepthMap:
        """Metric depth: focal length times baseline over disparity.

        Args:
            camera: Camera of the left image, in its file pixels.
            baseline: Distance between the two cameras in meters.
            offset: Pixels by which the optical axis of the right camera lies to the right of the left one's, `doffs` in
                the calibration files of Middlebury.

        Raises:
            UsageError: The baseline is not above 0.
        """
        if not baseline > 0:
            raise UsageError(f"baseline {baseline}: the distance between the cameras in meters, above 0")
        apart = self.values + np.float32(offset)
        usable = self.known & (apart > 0)
        depth = np.divide(np.float32(camera.fx * baseline), apart, out=np.zeros_like(apart), where=usable)
        return DepthMap(depth)

    def limits(self, fraction: float = 0.01) -> tuple[float, float]:
        """The range of what is known, without that fraction of outliers on either side; (0, 1) where nothing is."""
        return DepthMap(self.values, metric=False).limits(fraction)

    def summary(self) -> dict[str, Any]:
        """The record without the map: smallest, median and largest disparity, the fraction of the image known."""
        values = self.values[self.known]
        facts: dict[str, float | None] = {"min": None, "median": None, "max": None}
        if len(values):
            facts = {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}
        known = len(values) / self.values.size
        return {"kind": self.kind, "unit": "px", "size": list(self.size), **facts, "known": known, "step": self.step}

    def text(self, top: int = 3) -> str:
        facts = self.summary()
        if facts["median"] is None:
            return "no disparity"
        return f"{facts['min']:.1f} to {facts['max']:.1f} px, half of it below {facts['median']:.1f} px"

    def difference(self, other: Prediction) -> Difference:
        """Largest difference as a part of the largest value; the same where the median pixel is within 1 %."""
        assert isinstance(other, DisparityMap)
        return DepthMap(self.values, metric=False).difference(DepthMap(other.values, metric=False))

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.disparity_map import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """`.png`: 16 bit as KITTI's, see `png`; `.pfm`: float32 pixels as Middlebury's, infinite where not known."""
        yield stem.with_name(stem.name + ".png"), self.png()
        yield stem.with_name(stem.name + ".pfm"), self.pfm()

    def png(self) -> bytes:
        """A 16-bit gray png in 1/256 px, as KITTI's, 0 where nothing is known.

        A map with disparities above 255.996 px has coarser steps; the file's text `unit` states them.
        """
        most = float(self.values.max())
        step = KITTI_STEP if most <= _MOST * KITTI_STEP else most / _MOST
        return gray_png(codes_of(self.values, step), f"{step:.10g} px")

    def pfm(self) -> bytes:
        """The map as a PFM file of one channel, from the bottom up, infinite where nothing is known."""
        height, width = self.size
        rows = np.where(self.known, self.values, np.float32(np.inf))[::-1].astype("<f4")
        return f"Pf\n{width} {height}\n-1\n".encode("ascii") + rows.tobytes()

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> DisparityMap | None:
        return cls(np.zeros((1, 1), np.float32)).truth(target)

    def truth(self, target: Mapping[str, Any]) -> DisparityMap | None:
        if "disparity" not in target:
            return None
        values = np.nan_to_num(np.asarray(target["disparity"], dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if "valid" in target:
            values = np.where(np.asarray(target["valid"], dtype=bool), values, np.float32(0))
        return DisparityMap(np.maximum(values, 0))

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        median = self.summary()["median"]
        row: dict[str, str | float | bool] = {} if median is None else {"median": median}
        if isinstance(truth, DisparityMap) and truth.size == self.size and truth.known.any():
            error = np.abs(self.values - truth.values)[truth.known]
            row |= {"epe": float(error.mean()), "bad3": float((error > 3).mean())}
        return row

    def to_json(self) -> dict[str, Any]:
        """`png` is a 16-bit png in base64; a value is its number times `step`."""
        return {**self.summary(), "png": base64.b64encode(gray_png(self.codes)).decode("ascii")}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> DisparityMap:
        codes = read_gray_png(io.BytesIO(base64.b64decode(record["png"])))
        return cls((codes * float(record["step"])).astype(np.float32))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DisparityMap):
            return NotImplemented
        return self.step == other.step and bool(np.array_equal(self.codes, other.codes))

    __hash__ = None  # type: ignore[assignment]
