"""Errors of an estimated trajectory: APE, RPE (Sturm et al., 2012) and SfMLearner's snippets (Zhou et al., 2017)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from visionkit.errors import DataError
from visionkit.trajectories.poses import Trajectory, angles, motions

DeltaUnit = Literal["frames", "meters"]


class PoseErrors(NamedTuple):
    """Errors of poses or of motions.

    Attributes:
        translation: (N,) meters.
        rotation: (N,) degrees.
    """

    translation: np.ndarray
    rotation: np.ndarray


def absolute_errors(estimate: Trajectory, truth: Trajectory) -> PoseErrors:
    """APE: how far each pose is from the true one, after whatever alignment was applied before."""
    turned = motions(truth.poses, estimate.poses)[:, :3, :3]
    return PoseErrors(np.linalg.norm(estimate.positions - truth.positions, axis=1), angles(turned))


def relative_errors(estimate: Trajectory, truth: Trajectory, pairs: np.ndarray) -> PoseErrors:
    """RPE: how far the motion between two poses is from the true one.

    Args:
        estimate: Estimated poses.
        truth: As many true ones.
        pairs: (P, 2) numbers of the first and the last pose, see `pose_pairs`.
    """
    start, end = pairs.T
    true = motions(truth.poses[start], truth.poses[end])
    apart = motions(true, motions(estimate.poses[start], estimate.poses[end]))
    return PoseErrors(np.linalg.norm(apart[:, :3, 3], axis=1), angles(apart[:, :3, :3]))


def pose_pairs(
    trajectory: Trajectory, delta: float = 1, unit: DeltaUnit = "frames", all_pairs: bool = False
) -> np.ndarray:
    """The pairs of poses whose motion RPE compares.

    Args:
        trajectory: Where the length of the path is measured; the estimate, as the field's tools have it.
        delta: Frames or meters of path from the first to the last pose of a pair.
        unit: Of `delta`. In meters a pair ends at the first pose that is at least so far along the path.
        all_pairs: A pair begins at every pose; otherwise where the one before has ended.

    Returns:
        (P, 2) numbers of poses.

    Raises:
        DataError: The trajectory is shorter than `delta`.
    """
    count = len(trajectory)
    if unit == "frames":
        starts = np.arange(0, count, 1 if all_pairs else int(delta))
        ends = starts + int(delta)
    else:
        ends = _ends_by_path(trajectory.path, delta)
        starts = np.arange(count)
        if not all_pairs:
            chain = [0]
            while (following := int(ends[chain[-1]])) < count:
                chain.append(following)
            starts, ends = np.array(chain), ends[chain]
    inside = ends < count
    if not inside.any():
        raise DataError(
            f"no two poses are {delta:g} {unit} apart: the estimate has {count} poses and a path of "
            f"{trajectory.path[-1]:.3g} m; choose a smaller --delta"
        )
    return np.stack([starts, ends], axis=1)[inside]


def _ends_by_path(path: np.ndarray, delta: float) -> np.ndarray:
    """For each pose the first one whose path since it is at least `delta`; the number of poses where there is none."""
    # Rounding of the sum must not carry a pair of exactly `delta` on to the next pose.
    return np.searchsorted(path, path + delta * (1 - 1e-12))


def snippet_errors(estimate: Trajectory, truth: Trajectory, frames: int = 5) -> np.ndarray:
    """The ATE of SfMLearner: one number per snippet of consecutive frames, with a scale of its own.

    A snippet is seen from its first frame, and the estimate is scaled to the truth by least squares. The paper's code
    divides the root of the summed squares by the number of frames, not the sum below the root: that is no RMSE, so it
    has a name of its own.

    Args:
        estimate: Estimated poses.
        truth: As many true ones.
        frames: Frames of a snippet; at least 2.

    Returns:
        (N - frames + 1,) meters of the truth.

    Raises:
        DataError: Fewer poses than a snippet has.
    """
    if len(truth) < frames:
        raise DataError(f"{len(truth)} poses make no snippet of {frames} frames; choose a smaller --snippet")
    numbers = np.arange(len(truth) - frames + 1)[:, None] + np.arange(frames)
    ours, true = (motions(each.poses[numbers[:, :1]], each.poses[numbers])[..., :3, 3] for each in (estimate, truth))
    size = (ours**2).sum(axis=(1, 2))
    scale = np.divide((true * ours).sum(axis=(1, 2)), size, out=np.zeros_like(size), where=size > 0)
    left = scale[:, None, None] * ours - true
    return np.asarray(np.sqrt((left**2).sum(axis=(1, 2))) / frames)


def statistics(errors: np.ndarray) -> dict[str, float]:
    """Root mean square, mean, median, standard deviation, least and largest of errors."""
    return {
        "rmse": float(np.sqrt((errors**2).mean())),
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        "std": float(errors.std()),
        "min": float(errors.min()),
        "max": float(errors.max()),
    }
