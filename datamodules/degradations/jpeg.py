"""What files leave of an image: whole gray levels, and what JPEG keeps."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from datamodules.degradations.parts import DegradationPart, Degraded, Range, bounds_of
from visionkit.errors import UsageError

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


@dataclass(frozen=True)
class Quantize(DegradationPart):
    """Clips to 0 to 255 and rounds to whole gray levels, as a file of 8 bits does."""

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        return degraded._replace(image=np.rint(np.clip(degraded.image, 0, 255)))

    def leaves_levels(self, whole: bool) -> bool:
        return True


@dataclass(frozen=True)
class JPEG(DegradationPart):
    """Compresses as a JPEG file, after rounding to whole gray levels.

    Args:
        quality: Quality of libjpeg, 1 to 100, or the smallest and the largest, drawn evenly per image.
        subsampling: Of colors: `4:2:0` keeps one for four pixels, `4:2:2` one for two, `4:4:4` all.
    """

    quality: Range = (10, 40)
    subsampling: Subsampling = "4:2:0"

    def __post_init__(self) -> None:
        bounds_of(self.quality, 1, 100, "JPEG.quality")
        if self.subsampling not in get_args(Subsampling):
            raise UsageError(f"JPEG.subsampling {self.subsampling!r}: allowed are {', '.join(get_args(Subsampling))}")

    @property
    def grid(self) -> int:
        return 8 if self.subsampling == "4:4:4" else 16

    @property
    def reach(self) -> int:
        # The whole of the block that is two pixels away: colors between two of its neighbors are interpolated.
        return self.grid + 2

    def leaves_levels(self, whole: bool) -> bool:
        return True

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        low, high = (round(bound) for bound in bounds_of(self.quality, 1, 100, "JPEG.quality"))
        quality = low if low == high else int(rng.integers(low, high + 1))
        levels = np.rint(np.clip(degraded.image, 0, 255)).astype(np.uint8)
        return degraded._replace(image=through_jpeg(levels, quality, self.subsampling).astype(np.float32))


def through_jpeg(image: np.ndarray, quality: int, subsampling: Subsampling = "4:2:0") -> np.ndarray:
    """An image that was written as JPEG and read again.

    Args:
        image: (h, w, 1 or 3) uint8.
        quality: 1 to 100.
        subsampling: Of colors; gray images have none.

    Returns:
        The same shape and type.
    """
    file = io.BytesIO()
    gray = image.shape[2] == 1
    options = {} if gray else {"subsampling": subsampling}
    Image.fromarray(image[:, :, 0] if gray else image).save(file, "JPEG", quality=quality, **options)
    return np.array(Image.open(file, formats=["JPEG"])).reshape(image.shape)
