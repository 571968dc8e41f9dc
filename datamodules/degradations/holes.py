"""Parts of an image that are missing: strokes of a brush, boxes, masks from files."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from datamodules.degradations.parts import GRAY, DegradationPart, Degraded, Range, bounds_of, drawn, with_holes
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import list_images
from visionkit.mask_files import read_mask

_TRIES = 32  # strokes that are drawn at most for one mask


class HolesPart(DegradationPart):
    """Makes holes in an image, and a mask of them. Holes of several parts add up.

    Attributes:
        fill: Gray level that holes are filled with.
    """

    condition = "mask"
    fill: float

    def __post_init__(self) -> None:
        if not 0 <= self.fill <= 255:
            raise UsageError(f"{type(self).__name__}.fill {self.fill}: allowed is 0 to 255")

    @abstractmethod
    def mask_of(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """The mask of one image, (h, w) bool, true where it is missing."""

    def leaves_levels(self, whole: bool) -> bool:
        return whole and float(self.fill).is_integer()

    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        height, width = degraded.image.shape[:2]
        return with_holes(degraded, self.mask_of(height, width, rng), self.fill)


@dataclass(frozen=True)
class FreeFormHoles(HolesPart):
    """Holes as a brush makes them: strokes of straight pieces with round ends (Yu et al., 2019, algorithm 1).

    Strokes are added until the fraction that is drawn for the image is covered. One that would cover more than the
    largest fraction is drawn again, thinner and shorter, so on an image that is small beside the brush strokes are
    smaller.

    Args:
        coverage: Fraction of the image that is missing, or the smallest and the largest.
        width: Width of the brush in pixels, or the smallest and the largest.
        length: Length of a straight piece in pixels, or the shortest and the longest.
        pieces: Largest number of pieces of a stroke.
        fill: Gray level that holes are filled with.
    """

    coverage: Range = (0.1, 0.4)
    width: Range = (8.0, 24.0)
    length: Range = (10.0, 60.0)
    pieces: int = 8
    fill: float = GRAY

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds_of(self.coverage, 0, 0.95, "FreeFormHoles.coverage")
        bounds_of(self.width, 1, 255, "FreeFormHoles.width")
        bounds_of(self.length, 1, 10_000, "FreeFormHoles.length")
        if self.pieces < 1:
            raise UsageError(f"FreeFormHoles.pieces {self.pieces}: at least 1")

    def mask_of(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        import cv2

        bounds = bounds_of(self.coverage, 0, 0.95, "FreeFormHoles.coverage")
        goal, most = drawn(bounds, rng) * height * width, bounds[1] * height * width
        mask, scale = np.zeros((height, width), np.uint8), 1.0
        for _ in range(_TRIES):
            if not goal or np.count_nonzero(mask) >= goal:
                break
            points, thickness = self._stroke(height, width, scale, rng)
            candidate = mask.copy()
            for start, end in pairwise(points):
                cv2.line(candidate, start, end, 1, thickness)
            for point in points:
                cv2.circle(candidate, point, thickness // 2, 1, -1)
            if np.count_nonzero(candidate) <= max(most, goal + 1):
                mask = candidate
            else:
                scale *= 0.7
        return mask.astype(bool)

    def _stroke(
        self, height: int, width: int, scale: float, rng: np.random.Generator
    ) -> tuple[list[tuple[int, int]], int]:
        """The corners of a stroke, x and y, and the width of its brush."""
        brush = drawn(bounds_of(self.width, 1, 255, "FreeFormHoles.width"), rng) * scale
        x, y, heading = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
        points = [(int(x), int(y))]
        for _ in range(int(rng.integers(1, self.pieces + 1))):
            # Pieces turn back and forth by up to half a right angle to either side of the opposite way.
            heading += math.pi + rng.uniform(-math.pi / 2, math.pi / 2)
            way = drawn(bounds_of(self.length, 1, 10_000, "FreeFormHoles.length"), rng) * scale
            x = min(max(x + way * math.cos(heading), 0), width - 1)
            y = min(max(y + way * math.sin(heading), 0), height - 1)
            points.append((int(x), int(y)))
        return points, max(1, round(brush))


@dataclass(frozen=True)
class BoxHoles(HolesPart):
    """Rectangular holes.

    Args:
        size: Side of a box as a fraction of the image's, or the smallest and the largest, drawn for height and width.
        count: Number of boxes.
        center: One box lies in the middle (Pathak et al., 2016, with a size of 0.5); otherwise anywhere inside.
        fill: Gray level that holes are filled with.
    """

    size: Range = (0.2, 0.5)
    count: int = 1
    center: bool = False
    fill: float = GRAY

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds_of(self.size, 0, 1, "BoxHoles.size")
        if self.count < 1 or (self.center and self.count > 1):
            raise UsageError(f"BoxHoles.count {self.count}: at least 1, and 1 in the center")

    def mask_of(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        mask = np.zeros((height, width), bool)
        bounds = bounds_of(self.size, 0, 1, "BoxHoles.size")
        for _ in range(self.count):
            h, w = (max(1, round(side * drawn(bounds, rng))) for side in (height, width))
            top, left = (height - h) // 2, (width - w) // 2
            if not self.center:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            mask[top : top + h, left : left + w] = True
        return mask


@dataclass(frozen=True)
class MaskFolder(HolesPart):
    """Holes whose masks lie in a folder, one drawn per image, flipped at random and resized by nearest value.

    Args:
        path: Folder of images, searched deeply; a pixel is missing where the mask is brighter than middle gray.
        invert: A pixel is missing where the mask is dark.
        flips: Flip and rotate masks by quarters.
        fill: Gray level that holes are filled with.
    """

    path: str
    invert: bool = False
    flips: bool = True
    fill: float = GRAY

    def __post_init__(self) -> None:
        super().__post_init__()
        files = list_images(self.path).files
        if not files:
            raise DataError(f"{self.path}: no images of masks in this folder")
        object.__setattr__(self, "_files", files)

    def mask_of(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        import cv2

        files: list[Path] = self.__dict__["_files"]
        mask = read_mask(ImageSource(files[int(rng.integers(len(files)))]), self.invert)
        if self.flips:
            mask = np.rot90(mask, int(rng.integers(4)))
            mask = mask[:, ::-1] if rng.integers(2) else mask
        if mask.shape == (height, width):
            return mask
        resized = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(resized.astype(bool))
