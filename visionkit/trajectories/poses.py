"""Poses of a camera over time, and the little algebra of rigid motions that their errors need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.errors import DataError


@dataclass(frozen=True)
class Trajectory:
    """Where a camera was and where it looked.

    Attributes:
        poses: (N, 4, 4) float64, each takes points from the camera to the world; positions in meters.
        times: (N,) seconds, increasing; None where a file has one pose per frame and no times.
    """

    poses: np.ndarray
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def positions(self) -> np.ndarray:
        """(N, 3) meters."""
        return self.poses[:, :3, 3]

    @property
    def path(self) -> np.ndarray:
        """(N,) meters traveled since the first pose."""
        steps = np.linalg.norm(np.diff(self.positions, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def at(self, indices: np.ndarray) -> Trajectory:
        """The poses of these numbers."""
        return Trajectory(self.poses[indices], None if self.times is None else self.times[indices])


def rigid(rotations: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(N, 4, 4) motions of (N, 3, 3) rotations and (N, 3) translations."""
    poses = np.broadcast_to(np.eye(4), (len(rotations), 4, 4)).copy()
    poses[:, :3, :3], poses[:, :3, 3] = rotations, positions
    return poses


def motions(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The motions from one pose to another, seen from the first: the inverse of `start` times `end`.

    Args:
        start: (..., 4, 4).
        end: (..., 4, 4).
    """
    turned = start[..., :3, :3].swapaxes(-1, -2)
    out = np.zeros(np.broadcast_shapes(start.shape, end.shape))
    out[..., :3, :3] = turned @ end[..., :3, :3]
    out[..., :3, 3] = (turned @ (end[..., :3, 3] - start[..., :3, 3])[..., None])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def chained(moved: np.ndarray) -> np.ndarray:
    """The poses that motions from frame to frame lead to.

    Args:
        moved: (N, 4, 4), the pose of each camera as the camera of the frame before sees it; that of the first frame
            does not matter.

    Returns:
        (N, 4, 4) camera to world, where the world is the first camera.
    """
    poses = np.broadcast_to(np.eye(4), moved.shape).copy()
    for k in range(1, len(moved)):
        poses[k] = poses[k - 1] @ moved[k]
    return poses


def angles(rotations: np.ndarray) -> np.ndarray:
    """Degrees by which rotations turn, 0 to 180.

    By sine and cosine together, since the arc cosine of the trace alone loses half of the digits of small angles.

    Args:
        rotations: (..., 3, 3).
    """
    skew = rotations - rotations.swapaxes(-1, -2)
    sine = np.sqrt((skew**2).sum(axis=(-1, -2)) / 8)
    cosine = (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2
    return np.asarray(np.degrees(np.arctan2(sine, cosine)))


def of_quaternions(quaternions: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations of (N, 4) quaternions x, y, z, w of any length above 0."""
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(4,) x, y, z, w of a (3, 3) rotation, of length 1 with w from 0 on; `of_quaternions` takes it back."""
    # The eigenvector of the largest eigenvalue (Bar-Itzhack, 2000), which no rotation divides by zero.
    (a, b, c), (d, e, f), (g, h, i) = rotation
    form = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    found = np.linalg.eigh(form)[1][:, -1]
    return np.asarray(-found if found[3] < 0 else found)


def associate(truth: Trajectory, estimate: Trajectory, max_difference: float = 0.02) -> tuple[Trajectory, Trajectory]:
    """The poses of two trajectories that belong together: by their times, or one by one where files have none.

    Of times two poses belong together where each is the nearest to the other.

    Args:
        truth: True poses.
        estimate: Estimated poses.
        max_difference: Largest difference of two times in seconds.

    Returns:
        Both with the same number of poses.

    Raises:
        DataError: Only one of them has times, their numbers of poses differ where none has, or fewer than two belong
            together.
    """
    if (truth.times is None) != (estimate.times is None):
        raise DataError(
            "one trajectory has times (TUM's text) and the other has none (KITTI's poses); write both in one format"
        )
    if truth.times is None or estimate.times is None:
        if len(truth) != len(estimate):
            raise DataError(
                f"{len(estimate)} estimated poses for {len(truth)} true ones; without times there is one per frame of "
                "the truth (TUM's text states times, so an estimate may leave frames out)"
            )
        pairs = np.arange(len(truth))[:, None].repeat(2, axis=1)
    else:
        there, back = _nearest(truth.times, estimate.times), _nearest(estimate.times, truth.times)
        pairs = np.stack([there, np.arange(len(estimate))], axis=1)[back[there] == np.arange(len(estimate))]
        pairs = pairs[np.abs(truth.times[pairs[:, 0]] - estimate.times[pairs[:, 1]]) <= max_difference]
    if len(pairs) < 2:
        raise DataError(
            f"{len(pairs)} poses belong together, and two are the least; times of both must be of one clock and at "
            f"most {max_difference:g} s apart (--max-difference)"
        )
    return truth.at(pairs[:, 0]), estimate.at(pairs[:, 1])


def _nearest(among: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The number of the nearest of increasing times."""
    right = np.searchsorted(among, times).clip(1, max(len(among) - 1, 1))
    left = right - 1
    right = right.clip(max=len(among) - 1)
    return np.where(times - among[left] <= among[right] - times, left, right)
