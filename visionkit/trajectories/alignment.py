"""The motion that brings an estimate nearest to the truth (Umeyama, 1991), in closed form."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from visionkit.errors import DataError
from visionkit.trajectories.poses import Trajectory

Alignment = Literal["none", "se3", "sim3"]
"""Nothing; rotation and translation; rotation, translation and scale, for estimates of one camera without a scale."""


class Similarity(NamedTuple):
    """A rotation, a translation and a scale: x becomes scale * rotation @ x + translation.

    Attributes:
        rotation: (3, 3).
        translation: (3,) meters.
        scale: Above 0.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    def apply(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory moved; its orientations turn with it."""
        poses = trajectory.poses.copy()
        poses[:, :3, :3] = self.rotation @ poses[:, :3, :3]
        poses[:, :3, 3] = self.scale * poses[:, :3, 3] @ self.rotation.T + self.translation
        return Trajectory(poses, trajectory.times)


def umeyama(source: np.ndarray, target: np.ndarray, with_scale: bool = False) -> Similarity:
    """The similarity that takes points nearest to others, by the least sum of squares.

    Args:
        source: (N, 3) points.
        target: (N, 3) points that they should come to lie on.
        with_scale: Find the scale too; otherwise it is 1.

    Raises:
        DataError: All source points are one, which has no scale.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered = source - source_mean
    covariance = (target - target_mean).T @ centered / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.ones(3)
    if np.linalg.det(left) * np.linalg.det(right) < 0:  # a reflection would fit better, and is no motion
        signs[2] = -1
    rotation = left * signs @ right
    scale = 1.0
    if with_scale:
        spread = (centered**2).sum() / len(source)
        if spread == 0:
            raise DataError("the estimate does not move, so it has no scale; align it by se3 or none")
        scale = float(singular @ signs / spread)
    return Similarity(rotation, target_mean - scale * rotation @ source_mean, scale)


def alignment_of(estimate: Trajectory, truth: Trajectory, alignment: Alignment) -> Similarity:
    """What brings the positions of an estimate nearest to those of the truth, of as many poses.

    Raises:
        DataError: See `umeyama`.
    """
    if alignment == "none":
        return Similarity(np.eye(3), np.zeros(3), 1.0)
    return umeyama(estimate.positions, truth.positions, alignment == "sim3")


def turns_freely(positions: np.ndarray) -> bool:
    """Whether positions lie on a line, about which an alignment may turn as it likes."""
    spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    return bool(spread[1] <= 1e-9 * max(spread[0], 1e-300))
