"""How a point of an image is seen: a patch around it through a random homography, in random light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionkit.errors import UsageError

_TRIES = 8
"""Points that are drawn until one is not flat."""

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


@dataclass(frozen=True)
class PatchViews:
    """What differs between two views of one point, drawn for each of them.

    Attributes:
        scale: Largest zoom: a view shows from 1 / scale to scale times the side of a patch.
        rotate: Largest rotation in degrees, in either direction.
        perspective: Largest shift of each corner, as a fraction of the side.
        translate: Largest shift of the patch in pixels, as a detector misses a point.
        gain: Range of the factor of brightness.
        offset: Largest shift of brightness in gray levels, in either direction.
        gamma: Largest exponent of brightness; the smallest is its inverse.
        blur: Largest deviation of a Gaussian blur in pixels, which half of the views have.
        noise: Largest deviation of Gaussian noise in gray levels.
        min_contrast: Standard deviation of the gray levels that the middle of a patch should have; flatter points are
            drawn again a few times.
    """

    scale: float = 1.2
    rotate: float = 15.0
    perspective: float = 0.08
    translate: float = 2.0
    gain: Sequence[float] = (0.6, 1.4)
    offset: float = 25.0
    gamma: float = 1.4
    blur: float = 1.2
    noise: float = 6.0
    min_contrast: float = 12.0

    def __post_init__(self) -> None:
        if min(self.scale, self.gamma) < 1:
            raise UsageError(f"data.views: scale {self.scale:g} and gamma {self.gamma:g} must be at least 1")
        least = min(self.rotate, self.translate, self.offset, self.blur, self.noise, self.min_contrast)
        if least < 0 or not 0 <= self.perspective < 0.5:
            raise UsageError("data.views: numbers must be at least 0, and perspective below 0.5")
        if len(self.gain) != 2 or not 0 < self.gain[0] <= self.gain[1]:
            raise UsageError(f"data.views.gain {list(self.gain)}: give the smallest and the largest factor, above 0")

    def pair(
        self, image: np.ndarray, match: bool, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two patches of an image.

        Args:
            image: (h, w, C) uint8.
            match: Of one point; otherwise of two that are at least half a side apart, where the image is that large.
            side: Of a patch, in pixels.
            rng: Draws everything.

        Returns:
            (side, side, C) uint8 each.
        """
        place = self.point(image, side, rng)
        other = place
        for _ in range(0 if match else _TRIES):
            other = self.point(image, side, rng)
            if np.hypot(*(other - place)) >= side / 2:
                break
        return self.seen(image, place, side, rng), self.seen(image, other, side, rng)

    def point(self, image: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        """(2,) x and y of a point whose patch lies in the image and is not flat."""
        height, width = image.shape[:2]
        point = np.zeros(2)
        for _ in range(_TRIES):
            free = np.maximum(np.array([width, height]) - side, 0)
            point = side / 2 + rng.random(2) * free
            x, y = (int(value) for value in point)
            reach = side // 4
            middle = image[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]
            if middle.size and middle.std() >= self.min_contrast:
                break
        return np.minimum(point, [width, height])

    def seen(self, image: np.ndarray, place: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
        """One view of a point, (side, side, C) uint8.

        Args:
            image: (h, w, C) uint8.
            place: (2,) x and y in pixels, from the border of the image.
            side: Of a patch, in pixels.
            rng: Draws the view.
        """
        import cv2

        turn = np.radians(rng.uniform(-self.rotate, self.rotate))
        reach = side / 2 * self.scale ** rng.uniform(-1, 1)
        turned = _CORNERS @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        corners = turned * reach + rng.uniform(-1, 1, (4, 2)) * self.perspective * side
        corners += place + rng.uniform(-1, 1, 2) * self.translate
        # OpenCV counts from the middle of the first pixel.
        target = (_CORNERS + 1) * side / 2 - 0.5
        way = cv2.getPerspectiveTransform((corners - 0.5).astype(np.float32), target.astype(np.float32))
        patch = cv2.warpPerspective(image, way, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return self._lit(np.asarray(patch).reshape(side, side, -1), rng)

    def _lit(self, patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        import cv2

        gain, offset = rng.uniform(self.gain[0], self.gain[1]), rng.uniform(-self.offset, self.offset)
        levels = np.linspace(0, 1, 256) ** (self.gamma ** rng.uniform(-1, 1))
        # Brightness turns around the middle, so that a strong gain does not only cut off the bright half.
        table = (levels * 255 - 127.5) * gain + 127.5 + offset
        lit = table.astype(np.float32)[patch]
        blur = rng.uniform(0, self.blur)
        if rng.random() < 0.5 and blur > 0.2:
            lit = cv2.GaussianBlur(lit, (0, 0), blur).reshape(patch.shape)
        lit += rng.uniform(0, self.noise) * rng.standard_normal(patch.shape, dtype=np.float32)
        return np.asarray(np.clip(np.rint(lit), 0, 255).astype(np.uint8))
