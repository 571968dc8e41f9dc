"""Files of trajectories: KITTI's poses (12 numbers per line) and TUM's text (time, position, quaternion)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionkit.errors import DataError
from visionkit.text_files import finite_numbers, read_lines
from visionkit.trajectories.poses import Trajectory, of_quaternions, quaternion, rigid

_COLUMNS = {12: "KITTI's 12 numbers of a 3x4 matrix", 8: "TUM's time tx ty tz qx qy qz qw"}
_ROTATION_TOLERANCE = 1e-2  # files round to few digits


def read_trajectory(path: str | Path) -> Trajectory:
    """A trajectory in either format, which the number of columns states; lines that begin with # are comments.

    Args:
        path: KITTI's text, the first three rows of camera-to-world matrices, one per frame; or TUM's, with times in
            seconds and quaternions of any length.

    Raises:
        DataError: It cannot be read, or a line is of another format, holds no rotation, or goes back in time.
    """
    path = Path(path)
    lines = [(number, line) for number, line in read_lines(path, "file of poses") if not line.startswith("#")]
    rows = [finite_numbers(line) for _, line in lines]
    columns = len(rows[0]) if rows else 0
    if columns not in _COLUMNS:
        held = f"{columns} numbers in its first line" if rows else "empty"
        raise DataError(f"{path}: {held}; allowed are {' and '.join(_COLUMNS.values())}")
    for (number, line), row in zip(lines, rows, strict=True):
        if len(row) != columns:
            raise DataError(
                f"{path} line {number}: {line[:60]!r} is not {_COLUMNS[columns]}, as the lines above it are"
            )
    numbers, places = np.array(rows), [number for number, _ in lines]
    if columns == 12:
        poses = rigid(numbers.reshape(-1, 3, 4)[:, :, :3], numbers.reshape(-1, 3, 4)[:, :, 3])
        _check_rotations(poses[:, :3, :3], path, places)
        return Trajectory(poses)
    lengths, steps = np.linalg.norm(numbers[:, 4:], axis=1), np.diff(numbers[:, 0])
    if not lengths.all():
        raise DataError(f"{path} line {places[int(lengths.argmin())]}: its quaternion is 0 0 0 0, which is no rotation")
    if (steps <= 0).any():
        number = places[int((steps <= 0).argmax()) + 1]
        raise DataError(
            f"{path} line {number}: its time is not after that of the line above it; sort the lines by time"
        )
    return Trajectory(rigid(of_quaternions(numbers[:, 4:]), numbers[:, 1:4]), numbers[:, 0])


def kitti_text(poses: Sequence[np.ndarray]) -> str:
    """Poses, (4, 4) each, as KITTI's text: the first three rows of each matrix in one line."""
    return "".join(" ".join(f"{value:.9e}" for value in pose[:3].ravel()) + "\n" for pose in poses)


def tum_text(times: Sequence[float], poses: Sequence[np.ndarray]) -> str:
    """Poses, (4, 4) each, as TUM's text: time in seconds, position, and quaternion with its real part last."""
    rows = [
        " ".join([f"{time:.6f}", *(f"{value:.9f}" for value in (*pose[:3, 3], *quaternion(pose[:3, :3])))])
        for time, pose in zip(times, poses, strict=True)
    ]
    return "# timestamp tx ty tz qx qy qz qw\n" + "".join(f"{row}\n" for row in rows)


def _check_rotations(rotations: np.ndarray, path: Path, places: list[int]) -> None:
    off = np.abs(rotations @ rotations.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2))
    wrong = (off > _ROTATION_TOLERANCE) | (np.linalg.det(rotations) < 0)
    if wrong.any():
        raise DataError(
            f"{path} line {places[int(wrong.argmax())]}: columns 1-3, 5-7 and 9-11 are no rotation matrix; KITTI's "
            "poses are the rows of a 3x4 matrix [R t] that takes points from the camera to the world"
        )
