"""Whether the two images of a pair are rectified, by a few points that both show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_KEYPOINTS, _MATCHES = 800, 20
_FARTHEST = 40  # bits in which the descriptors of a match differ, of 256


class Displacement(NamedTuple):
    """How the points of the left image lie in the right one, medians in pixels.

    Attributes:
        vertical: Absolute vertical displacement; 0 in a rectified pair.
        disparity: How far they move to the left; above 0 unless the images are exchanged.
    """

    vertical: float
    disparity: float


def displacement(left: np.ndarray, right: np.ndarray) -> Displacement | None:
    """Matches ORB keypoints (Rublee et al., 2011) of two images.

    Args:
        left: (h, w) uint8, gray.
        right: (h, w) uint8, gray.

    Returns:
        None where too few points are found in both.
    """
    import cv2

    finder = cv2.ORB.create(_KEYPOINTS)
    (ours, one), (theirs, other) = (finder.detectAndCompute(image, None) for image in (left, right))
    if one is None or other is None:
        return None
    matches = [
        each for each in cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one, other) if each.distance < _FARTHEST
    ]
    if len(matches) < _MATCHES:
        return None
    apart = np.array([np.subtract(ours[each.queryIdx].pt, theirs[each.trainIdx].pt) for each in matches])
    return Displacement(float(np.median(np.abs(apart[:, 1]))), float(np.median(apart[:, 0])))
