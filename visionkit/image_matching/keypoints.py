"""Points of an image that are found again in another one, and the patches around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from visionkit.errors import UsageError, suggest

KeypointKind = Literal["sift", "orb", "gftt"]

REACH: dict[str, float] = {"sift": 12.0, "orb": 2.0, "gftt": 8.0}
"""Side of the patch around a keypoint, as a multiple of the size that its detector states."""

_CORNER_SIZE = 8.0  # pixels, of corners without a size of their own


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of one image.

    Attributes:
        kind: Their detector.
        points: OpenCV's own, which its descriptors need.
    """

    kind: str
    points: Sequence[Any]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def positions(self) -> np.ndarray:
        """(N, 2) float64 x and y in pixels; 0 is the border of the image, so the first pixel's center is at 0.5."""
        return np.array([each.pt for each in self.points], np.float64).reshape(-1, 2) + 0.5


def find_keypoints(gray: np.ndarray, kind: KeypointKind = "sift", most: int = 1000) -> Keypoints:
    """The strongest keypoints of an image.

    Args:
        gray: (h, w) uint8.
        kind: `sift` (Lowe, 2004) and `orb` (Rublee et al., 2011) have a size and an angle; `gftt` are corners (Shi and
            Tomasi, 1994) of one size, upright.
        most: Keep at most this many.

    Raises:
        UsageError: An unknown detector, or a number below 1.
    """
    import cv2

    allowed = get_args(KeypointKind)
    if kind not in allowed:
        raise UsageError(f"keypoints {kind!r}: allowed are {', '.join(allowed)}{suggest(kind, allowed)}")
    if most < 1:
        raise UsageError(f"max_keypoints {most}: at least 1 is needed")
    if kind == "gftt":
        corners = cv2.goodFeaturesToTrack(gray, most, 0.01, 4)
        places = [] if corners is None else np.asarray(corners).reshape(-1, 2).tolist()
        return Keypoints(kind, [cv2.KeyPoint(x, y, _CORNER_SIZE, 0.0) for x, y in places])
    detector = cv2.SIFT.create(nfeatures=most) if kind == "sift" else cv2.ORB.create(nfeatures=most)
    found = sorted(detector.detect(gray, None), key=lambda each: -each.response)
    return Keypoints(kind, found[:most])


def cut_patches(image: np.ndarray, keypoints: Keypoints, side: int) -> np.ndarray:
    """The patch around each keypoint, upright by its angle and at its size.

    Args:
        image: (h, w, C) uint8.
        keypoints: Of that image.
        side: Of a patch, in pixels.

    Returns:
        (N, side, side, C) uint8.
    """
    import cv2

    levels, channels = [image], image.shape[2]
    patches = np.empty((len(keypoints), side, side, channels), np.uint8)
    for number, point in enumerate(keypoints.points):
        zoom = REACH[keypoints.kind] * point.size / side  # pixels of the image to one of the patch
        level = max(0, math.floor(math.log2(max(zoom, 1.0))))
        while len(levels) <= level and min(levels[-1].shape[:2]) > 2:
            smaller = cv2.pyrDown(levels[-1])
            levels.append(np.asarray(smaller).reshape(*smaller.shape[:2], channels))
        level = min(level, len(levels) - 1)
        scale = zoom / 2**level
        turn = math.radians(max(point.angle, 0.0))
        cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
        # pyrDown keeps the first pixel's center where it is.
        x, y = point.pt[0] / 2**level, point.pt[1] / 2**level
        middle = (side - 1) / 2
        way = np.array(
            [
                [cosine, -sine, x - middle * (cosine - sine)],
                [sine, cosine, y - middle * (sine + cosine)],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(levels[level], way, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        patches[number] = np.asarray(cut).reshape(side, side, channels)
    return patches
