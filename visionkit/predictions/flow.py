"""How far every pixel moves to the other image."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.image import decode_png, encode_png
from visionkit.predictions.labels import LabelFacts

if TYPE_CHECKING:
    from visionkit.images import ImageLike

FLO_MAGIC = 202021.25
"""First number of a `.flo` file (Baker et al., 2011)."""

FLO_UNKNOWN = 1e9
"""What is larger in a `.flo` file is not known; 1e10 is written."""

KITTI_STEP, KITTI_ZERO = 1 / 64, 32768
"""A 16-bit png holds `value / KITTI_STEP + KITTI_ZERO` (Geiger et al., 2012)."""

_LARGEST = 32767


@dataclass(frozen=True, eq=False)
class FlowField(Prediction):
    """The motion of every pixel of the first image to the second.

    Two fields are equal where their 16-bit codes are: finer digits are noise of whatever computed them.

    Attributes:
        values: (2, h, w) float32, pixels of the file to the right and downwards; 0 where not `valid`.
        valid: (h, w) bool, where the motion is known; everywhere by default.
        shown: Length in pixels of the most saturated color of a drawing; by default nearly the longest motion.
    """

    kind: ClassVar[str] = "flow"
    label_keys: ClassVar[tuple[str, ...]] = ("flow",)
    label_rank: ClassVar[int] = 1

    values: np.ndarray
    valid: np.ndarray | None = None
    shown: float | None = None

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        if values.ndim != 3 or values.shape[0] != 2 or values.size == 0:
            raise ValueError(f"a flow field is (2, h, w), not {values.shape}")
        valid = np.ones(values.shape[1:], bool) if self.valid is None else np.array(self.valid, dtype=bool)
        if valid.shape != values.shape[1:]:
            raise ValueError(
                f"a flow field of {values.shape} has a valid mask of {values.shape[1:]}, not {valid.shape}"
            )
        values[:, ~valid] = 0
        if not np.isfinite(values).all():
            raise ValueError("a flow field holds finite values where it is valid")
        values.setflags(write=False)
        valid.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "shown", None if self.shown is None else float(self.shown))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in file pixels."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def known(self) -> np.ndarray:
        """(h, w) bool, where the motion is known."""
        assert self.valid is not None
        return self.valid

    @property
    def lengths(self) -> np.ndarray:
        """(h, w) float32, length of the motion in pixels."""
        lengths: np.ndarray = np.hypot(self.values[0], self.values[1])
        return lengths

    @property
    def step(self) -> float:
        """What one step of `codes` is worth in pixels: 1/64 as in KITTI's files, or more where the motion needs it."""
        return max(KITTI_STEP, float(np.abs(self.values).max()) / _LARGEST)

    @property
    def codes(self) -> np.ndarray:
        """(h, w, 3) uint16: both values in units of `step` with `KITTI_ZERO` for 0, and 1 where they are valid."""
        return _codes(self.values, self.known, self.step)

    def summary(self) -> dict[str, Any]:
        """The record without the field: mean and largest length, the fraction of the image known, ..."""
        lengths = self.lengths[self.known].astype(np.float64)
        return {
            "kind": self.kind,
            "unit": "px",
            "size": list(self.size),
            "mean": float(lengths.mean()) if len(lengths) else None,
            "max": float(lengths.max()) if len(lengths) else None,
            "known": len(lengths) / self.known.size,
            "step": self.step,
        }

    def text(self, top: int = 3) -> str:
        facts = self.summary()
        if facts["mean"] is None:
            return "no motion is known"
        part = "" if facts["known"] == 1 else f", known in {facts['known']:.0%} of the image"
        return f"motion of {facts['mean']:.2f} px in the mean and {facts['max']:.2f} px at most{part}"

    def difference(self, other: Prediction) -> Difference:
        """Largest difference as a part of the longest motion, or of a pixel where that is longer.

        The same where the median pixel is within 1 % in the same sense.
        """
        assert isinstance(other, FlowField)
        apart = np.hypot(*(self.values - other.values)) / max(float(self.lengths.max()), 1.0)
        same = bool(np.median(apart) <= 0.01) and bool((self.known == other.known).mean() >= 0.99)
        return Difference(float(apart.max()), same)

    def draw(self, image: ImageLike) -> np.ndarray:
        from visionkit.drawing.flow import draw

        return draw(self, image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """`.flo`: Middlebury's, exact; `.png`: KITTI's, 16 bit."""
        yield stem.with_name(stem.name + ".flo"), self.flo()
        yield stem.with_name(stem.name + ".png"), self.png()

    def flo(self) -> bytes:
        """A `.flo` file: magic number, width and height, then u and v of every pixel as float32, little-endian."""
        height, width = self.size
        values = np.where(self.known, self.values, 10 * FLO_UNKNOWN).transpose(1, 2, 0)
        return struct.pack("<fii", FLO_MAGIC, width, height) + values.astype("<f4").tobytes()

    def png(self) -> bytes:
        """A png as KITTI's: 16 bit, u and v in 1/64 px, and 1 where they are known.

        What is longer than 511 px does not fit, and is written as not known.
        """
        fits = self.known & (np.abs(self.values).max(axis=0) <= _LARGEST * KITTI_STEP)
        return encode_png(_codes(self.values, fits, KITTI_STEP))

    @classmethod
    def from_labels(cls, target: Mapping[str, Any], facts: LabelFacts) -> FlowField | None:
        found = cls(np.zeros((2, 1, 1), np.float32)).truth(target)
        return None if found is None else replace(found, shown=None)

    def truth(self, target: Mapping[str, Any]) -> FlowField | None:
        """The true flow, drawn on the scale of this one."""
        if "flow" not in target:
            return None
        values = np.asarray(target["flow"], dtype=np.float32)
        known = np.asarray(np.isfinite(values).all(axis=0))
        if "valid" in target:
            known = known & np.asarray(target["valid"], dtype=bool)
        return FlowField(values, known, self.reach)

    @property
    def reach(self) -> float:
        """Length in pixels of the most saturated color: `shown`, or what all but a thousandth do not exceed."""
        if self.shown is not None:
            return self.shown
        lengths = self.lengths[self.known]
        return max(float(np.quantile(lengths, 0.999)), 1e-3) if len(lengths) else 1.0

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        facts = self.summary()
        row: dict[str, str | float | bool] = {} if facts["mean"] is None else {"mean length": facts["mean"]}
        if isinstance(truth, FlowField) and truth.size == self.size:
            both = truth.known & self.known
            if both.any():
                error = np.hypot(*(self.values - truth.values))[both].astype(np.float64)
                row["epe"] = float(error.mean())
                row["fl_all"] = float(((error > 3) & (error > 0.05 * truth.lengths[both])).mean())
        return row

    def to_json(self) -> dict[str, Any]:
        """`png` is a 16-bit png in base64, coded as KITTI's with `step` in place of 1/64 where the motion is long."""
        return {**self.summary(), "png": base64.b64encode(encode_png(self.codes)).decode("ascii")}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> FlowField:
        codes = decode_png(base64.b64decode(record["png"]))
        values = (codes[..., :2].astype(np.float64) - KITTI_ZERO) * float(record["step"])
        return cls(values.transpose(2, 0, 1), codes[..., 2] > 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FlowField):
            return NotImplemented
        return (
            self.size == other.size
            and bool(np.isclose(self.step, other.step))
            and bool(np.array_equal(self.codes, other.codes))
        )

    __hash__ = None  # type: ignore[assignment]


def _codes(values: np.ndarray, valid: np.ndarray, step: float) -> np.ndarray:
    numbers = np.clip(np.rint(values.transpose(1, 2, 0) / np.float64(step)), -_LARGEST, _LARGEST) + KITTI_ZERO
    return np.concatenate([numbers * valid[..., None], valid[..., None]], axis=2).astype(np.uint16)
