"""Skeletons: limbs in their own colors, keypoints as dots; what is below the score threshold is left out."""

from __future__ import annotations

import cv2
import numpy as np

from visionkit.drawing.base import enlarged
from visionkit.images import ImageLike, read_image
from visionkit.predictions import Poses

_RIM = (16, 18, 24)
_DOT = (255, 255, 255)
_FINE = 4  # bits of sub-pixel places


def draw(prediction: Poses, image: ImageLike) -> np.ndarray:
    """Every person from `threshold` on, the highest-scoring on top."""
    source_image = read_image(image)
    canvas = np.ascontiguousarray(enlarged(source_image))
    factor = canvas.shape[1] / source_image.shape[1]
    shown = prediction.above()
    for number in range(len(shown) - 1, -1, -1):
        _person(canvas, shown, number, factor)
    return canvas


def _person(canvas: np.ndarray, poses: Poses, number: int, factor: float) -> None:
    keypoints, visible = poses.keypoints[number] * factor, poses.visible[number]
    box = poses.boxes[number] * factor
    # Lines follow the person's size, within what can be seen and does not hide.
    size = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
    width = int(np.clip(round(size / 45), 1, max(2, max(canvas.shape[:2]) // 150)))
    limit = 4.0 * max(canvas.shape[:2])  # OpenCV's coordinates are 32 bit with the sub-pixel bits

    def place(joint: int) -> tuple[int, int]:
        x, y = np.clip(keypoints[joint] - 0.5, -limit, limit)
        return round(float(x) * 2**_FINE), round(float(y) * 2**_FINE)

    for color, extra in ((_RIM, 2), (None, 0)):
        for (first, second), edge in zip(poses.skeleton.limbs, poses.skeleton.edges, strict=True):
            if visible[first] and visible[second]:
                paint = edge.color if color is None else color
                cv2.line(canvas, place(first), place(second), paint, width + extra, cv2.LINE_AA, _FINE)
    for joint in np.flatnonzero(visible).tolist():
        radius = (width + 1) << _FINE
        cv2.circle(canvas, place(joint), radius + (1 << _FINE), _RIM, -1, cv2.LINE_AA, _FINE)
        cv2.circle(canvas, place(joint), radius, _DOT, -1, cv2.LINE_AA, _FINE)
