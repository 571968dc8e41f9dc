"""Two photographs of one thing: which points are the same, and how the views are related."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from visionkit.errors import UsageError, suggest
from visionkit.image_matching import CLASSIC_RATIO
from visionkit.image_matching.descriptors import ClassicDescriptor, Descriptor
from visionkit.image_matching.keypoints import KeypointKind, find_keypoints
from visionkit.images import ImageLike, read_image

ModelKind = Literal["homography", "fundamental"]

_FEWEST = {"homography": 4, "fundamental": 8}
"""Matches that determine a model."""


@dataclass(frozen=True)
class ImageMatches:
    """Points that are the same in two images.

    Attributes:
        first: (N, 2) x and y in the first image, in pixels from its border.
        second: (N, 2) in the second.
        costs: (N,) of their descriptions, the lower the more alike.
        inliers: (N,) bool, those that agree with the model of both views.
        matrix: (3, 3) the model, which takes points of the first image to those of the second (`homography`) or to
            their epipolar lines (`fundamental`); None where too few matches agree on one.
        model_kind: `homography`, for a plane or a camera that only turns, or `fundamental`, for any scene at rest.
        keypoints: Number of keypoints of both images.
        descriptor: What was compared.
    """

    first: np.ndarray
    second: np.ndarray
    costs: np.ndarray
    inliers: np.ndarray
    matrix: np.ndarray | None
    model_kind: str
    keypoints: tuple[int, int]
    descriptor: str

    def __len__(self) -> int:
        return len(self.first)

    def to_json(self) -> dict[str, Any]:
        """Plain json types."""
        rows = zip(self.first.tolist(), self.second.tolist(), self.costs.tolist(), self.inliers.tolist(), strict=True)
        return {
            "model_kind": self.model_kind,
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "inliers": int(self.inliers.sum()),
            "descriptor": self.descriptor,
            "keypoints": list(self.keypoints),
            "matches": [{"first": a, "second": b, "cost": cost, "inlier": inlier} for a, b, cost, inlier in rows],
        }

    def text(self) -> str:
        """In one line for people."""
        model = "" if self.matrix is not None else f"; no {self.model_kind} found"
        return (
            f"{len(self)} matches of {self.keypoints[0]} and {self.keypoints[1]} keypoints, {int(self.inliers.sum())} "
            f"of them inliers{model}"
        )


def match_images(
    first: ImageLike,
    second: ImageLike,
    descriptor: Descriptor | None = None,
    *,
    keypoints: KeypointKind = "sift",
    max_keypoints: int = 1000,
    ratio: float = CLASSIC_RATIO,
    model_kind: ModelKind = "homography",
    reprojection: float = 3.0,
) -> ImageMatches:
    """Matches two images.

    Args:
        first: The first image.
        second: The second image.
        descriptor: Describes keypoints, such as `tasks.patch_matching.describing.PatchDescriptor`; by default ORB for
            its own keypoints and SIFT for others.
        keypoints: Detector, see `find_keypoints`.
        max_keypoints: Largest number of keypoints per image.
        ratio: Keep a match whose cost is below this fraction of that of the next best (Lowe, 2004); 1 keeps all.
        model_kind: See `ImageMatches`.
        reprojection: Pixels up to which a match agrees with the model.

    Raises:
        DataError: An image cannot be read.
        UsageError: A value that is not allowed.
    """
    import cv2

    allowed = get_args(ModelKind)
    if model_kind not in allowed:
        raise UsageError(f"model_kind {model_kind!r}: allowed are {', '.join(allowed)}{suggest(model_kind, allowed)}")
    if not 0 < ratio <= 1 or reprojection <= 0:
        raise UsageError(f"ratio {ratio:g} must be above 0 and at most 1, reprojection {reprojection:g} above 0 pixels")
    method = descriptor or ClassicDescriptor("orb" if keypoints == "orb" else "sift")
    images = read_image(first), read_image(second)
    found = [find_keypoints(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), keypoints, max_keypoints) for image in images]
    pairs, costs = np.zeros((0, 2), np.int64), np.zeros(0)
    if all(map(len, found)):
        described = [
            method.describe(image, points, of_second=number == 1)
            for number, (image, points) in enumerate(zip(images, found, strict=True))
        ]
        pairs, costs = mutual_matches(method.costs(*described), ratio)
    ours, theirs = found[0].positions[pairs[:, 0]], found[1].positions[pairs[:, 1]]
    matrix, inliers = fit_model(ours, theirs, model_kind, reprojection)
    counts = (len(found[0]), len(found[1]))
    return ImageMatches(ours, theirs, costs, inliers, matrix, model_kind, counts, method.name)


def mutual_matches(costs: np.ndarray, ratio: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of which each is the other's best.

    Args:
        costs: (N, M), infinite where a pair cannot be.
        ratio: Largest fraction of a pair's cost of that of the next best of its row, see `match_images`.

    Returns:
        (K, 2) row and column of each pair, and their costs (K,).
    """
    rows, columns = np.arange(len(costs)), costs.argmin(axis=1)
    best = costs[rows, columns]
    good = (costs.argmin(axis=0)[columns] == rows) & np.isfinite(best)
    if ratio < 1 and costs.shape[1] > 1:
        good &= best < ratio * np.partition(costs, 1, axis=1)[:, 1]
    return np.stack([rows[good], columns[good]], axis=1), best[good]


def fit_model(
    first: np.ndarray, second: np.ndarray, kind: ModelKind, reprojection: float = 3.0
) -> tuple[np.ndarray | None, np.ndarray]:
    """The model that most matches agree with, by OpenCV's RANSAC (Fischler and Bolles, 1981).

    Args:
        first: (N, 2) points of the first image.
        second: (N, 2) those of the second.
        kind: See `ImageMatches`.
        reprojection: Pixels up to which a match agrees.

    Returns:
        (3, 3) or None, and (N,) bool.
    """
    import cv2

    nothing = np.zeros(len(first), bool)
    if len(first) < _FEWEST[kind]:
        return None, nothing
    if kind == "homography":
        matrix, mask = cv2.findHomography(first, second, cv2.RANSAC, reprojection, maxIters=5000, confidence=0.999)
    else:
        matrix, mask = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, reprojection, 0.999, 5000)
    if matrix is None or matrix.shape != (3, 3):
        return None, nothing
    return np.asarray(matrix, np.float64), np.asarray(mask).reshape(-1) > 0
