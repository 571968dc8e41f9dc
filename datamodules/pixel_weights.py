"""How much each pixel counts: U-Net's map of narrow gaps, and the balance of small objects against large ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.errors import UsageError
from visionkit.types import IGNORE

_LARGEST = 20.0
"""A speck of one pixel does not outweigh the image."""


@dataclass(frozen=True)
class PixelWeights:
    """Weights from a label map; an object is a connected part of one class.

    Attributes:
        edge_weight: w0 of U-Net (Ronneberger et al., 2015): a pixel of the background at distances d1 and d2 from the
            two nearest objects counts `edge_weight * exp(-(d1 + d2)^2 / (2 edge_width^2))` more.
        edge_width: Sigma, in pixels.
        small_objects: Exponent: the pixels of an object count (average area / own area) to that power, at most 20.
        background: Label that is no object; None where every class is one, and then there are no gaps between them.
    """

    edge_weight: float = 0.0
    edge_width: float = 5.0
    small_objects: float = 0.0
    background: int | None = 0

    def __post_init__(self) -> None:
        if self.edge_weight < 0 or self.edge_width <= 0 or not 0 <= self.small_objects <= 1:
            raise UsageError(
                f"data: edge_weight {self.edge_weight} must be at least 0, edge_width {self.edge_width} above 0, "
                f"small_objects {self.small_objects} within 0 to 1"
            )
        if self.edge_weight and self.background is None:
            raise UsageError("data.edge_weight: lies on the background between objects; give data.background")

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """(h, w) classes to (h, w) float32, 1 where nothing is special."""
        weights = np.ones(labels.shape, dtype=np.float32)
        objects = self._objects(labels)
        if self.small_objects and objects:
            mean = float(np.mean([area for _, _, area in objects]))
            for box, mask, area in objects:
                weights[box][mask] = min((mean / area) ** self.small_objects, _LARGEST)
        if self.edge_weight:
            weights += self._gaps(labels, objects)
        return weights

    def _objects(self, labels: np.ndarray) -> list[tuple[tuple[slice, slice], np.ndarray, int]]:
        """Box, mask within the box and area of every object."""
        import cv2

        found = []
        for number in np.unique(labels):
            if number in (IGNORE, self.background):
                continue
            own = (labels == number).astype(np.uint8)
            count, parts, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
            for part in range(1, count):
                x, y, w, h, area = (int(v) for v in stats[part])
                box = (slice(y, y + h), slice(x, x + w))
                found.append((box, parts[box] == part, area))
        return found

    def _gaps(self, labels: np.ndarray, objects: list[tuple[tuple[slice, slice], np.ndarray, int]]) -> np.ndarray:
        """The border map; an object counts within 3.5 sigma, beyond which the exponential is nothing."""
        import cv2

        height, width = labels.shape
        reach = int(np.ceil(3.5 * self.edge_width))
        near = np.full((2, height, width), np.inf, dtype=np.float32)
        for (rows, columns), mask, _ in objects:
            top, left = max(rows.start - reach, 0), max(columns.start - reach, 0)
            tile = np.s_[top : min(rows.stop + reach, height), left : min(columns.stop + reach, width)]
            away = np.ones((tile[0].stop - top, tile[1].stop - left), dtype=np.uint8)
            away[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left][mask] = 0
            distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            first, second = near[0][tile], near[1][tile]
            second[...] = np.minimum(second, np.maximum(first, distance))
            first[...] = np.minimum(first, distance)
        total = near[0] + near[1]
        gap = self.edge_weight * np.exp(-(total**2) / (2 * self.edge_width**2))
        gap[labels != self.background] = 0
        out: np.ndarray = gap.astype(np.float32)
        return out
