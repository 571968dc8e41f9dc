"""What keypoints are compared by: classic descriptors, and the interface that a learned one has too."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from visionkit.image_matching.keypoints import Keypoints


class Descriptor(Protocol):
    """Describes keypoints, and compares descriptions.

    Attributes:
        name: What it is, for records.
    """

    name: str

    def describe(self, image: np.ndarray, keypoints: Keypoints, of_second: bool) -> Any:
        """The descriptions of the keypoints of an image.

        Args:
            image: (h, w, 3) uint8 RGB.
            keypoints: N of them.
            of_second: The image is the second of the pair.
        """

    def costs(self, first: Any, second: Any) -> np.ndarray:
        """(N, M) costs of N and M descriptions, at least 0: the lower, the more alike."""


class ClassicDescriptor:
    """SIFT, compared by distance, or ORB, compared by the number of bits that differ.

    Args:
        name: `sift` or `orb`.
    """

    def __init__(self, name: Literal["sift", "orb"]) -> None:
        self.name: str = name

    def describe(self, image: np.ndarray, keypoints: Keypoints, of_second: bool) -> np.ndarray:
        """(N, 128) float32 of SIFT, or (N, 256) float32 of 0 and 1 of ORB; a row of NaN where there is none."""
        import cv2

        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        method = cv2.SIFT.create() if self.name == "sift" else cv2.ORB.create()
        points = list(keypoints.points)
        for number, point in enumerate(points):
            point.class_id = number  # points near the border are left out, and the others stay known by it
        described = np.full((len(points), 128 if self.name == "sift" else 256), np.nan, np.float32)
        kept, values = method.compute(gray, points)
        if len(kept):
            rows = values if self.name == "sift" else np.unpackbits(np.asarray(values, np.uint8), axis=1)
            described[[point.class_id for point in kept]] = rows
        return described

    def costs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
        squares = np.where(np.isnan(squares), np.inf, squares.clip(min=0))
        return np.asarray(np.sqrt(squares) if self.name == "sift" else squares)
