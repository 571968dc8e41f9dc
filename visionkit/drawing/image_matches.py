"""Two images side by side with lines between the points that are the same."""

from __future__ import annotations

import numpy as np

from visionkit.drawing.colors import palette
from visionkit.image_matching.matching import ImageMatches
from visionkit.images import ImageLike, read_image

_OUTLIER = (120, 124, 134)


def draw_matches(matches: ImageMatches, first: ImageLike, second: ImageLike, outliers: bool = False) -> np.ndarray:
    """The drawing, (h, w, 3) uint8 RGB: both images at their own size, the inliers in colors of their own.

    Args:
        matches: What was found.
        first: The first image.
        second: The second image.
        outliers: Draw the matches that do not agree with the model too, in gray; they are drawn anyway where there is
            no model.
    """
    import cv2

    left, right = read_image(first), read_image(second)
    canvas = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1], 3), 255, np.uint8)
    canvas[: len(left), : left.shape[1]] = left
    canvas[: len(right), left.shape[1] :] = right
    width = max(1, round(max(canvas.shape) / 1200))
    shown = matches.inliers | (outliers or matches.matrix is None)
    order = np.argsort(matches.inliers[shown], kind="stable")  # inliers lie on top
    ours, theirs = matches.first[shown][order], matches.second[shown][order] + (left.shape[1], 0)
    agree = matches.inliers[shown][order]
    colors = palette(max(len(ours), 1))
    for number, (start, end, inlier) in enumerate(zip(ours, theirs, agree, strict=True)):
        color = colors[number].tolist() if inlier else _OUTLIER
        a, b = (np.round((point - 0.5) * 16).astype(int).tolist() for point in (start, end))
        cv2.line(canvas, a, b, color, width, cv2.LINE_AA, 4)
        for point in (a, b):
            cv2.circle(canvas, point, (2 * width + 1) << 4, color, width, cv2.LINE_AA, 4)
    return canvas
