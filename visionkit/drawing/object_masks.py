"""Objects that are followed to the pixel: a color and a number per object, the same in all frames."""

from __future__ import annotations

import cv2
import numpy as np

from visionkit.drawing.colors import palette
from visionkit.types import IGNORE

OPACITY = 0.5
_COLORS = 36
_RIM = (255, 255, 255)


def draw_objects(image: np.ndarray, labels: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """Objects in color with a white rim; the background stays as it is.

    Args:
        image: (h, w, 3) uint8 RGB; it is not changed.
        labels: (h, w) uint8, 0 background, 255 not known, others objects.
        opacity: Opacity of the colors, 0 to 1.
    """
    out = image.copy()
    wide = max(1, round(min(labels.shape) / 300))
    for label in object_numbers(labels):
        inside = (labels == label).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(inside)
        part = inside[y : y + height, x : x + width]
        color = palette(_COLORS)[(label - 1) % _COLORS].astype(np.float32)
        region = out[y : y + height, x : x + width]
        mixed = region * np.float32(1 - opacity) + color * np.float32(opacity)
        region[part > 0] = (mixed + 0.5).astype(np.uint8)[part > 0]
        outlines, _ = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
        cv2.drawContours(out, outlines, -1, _RIM, wide, cv2.LINE_AA)
    return out


def object_numbers(labels: np.ndarray) -> list[int]:
    """Numbers of the objects of a label map, rising."""
    return [number for number in np.flatnonzero(np.bincount(labels.ravel())).tolist() if number not in (0, IGNORE)]


def davis_palette() -> np.ndarray:
    """(256, 3) uint8 colors that the masks of DAVIS, and of Pascal VOC, are shown in: one bit of each number a step."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * step + channel) & 1) << (7 - step)).astype(np.uint8)
    return colors
