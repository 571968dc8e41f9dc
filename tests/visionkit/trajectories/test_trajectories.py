"""Files, association, alignment and errors of trajectories, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visionkit.errors import DataError
from visionkit.trajectories.alignment import Similarity, turns_freely, umeyama
from visionkit.trajectories.drawing import draw_trajectories
from visionkit.trajectories.pose_files import read_trajectory
from visionkit.trajectories.poses import Trajectory, angles, associate, motions, of_quaternions, rigid
from visionkit.trajectories.trajectory_errors import (
    absolute_errors,
    pose_pairs,
    relative_errors,
    snippet_errors,
    statistics,
)

QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # 90 degrees about z


def along(*positions, rotation=None, times=None):
    rotations = np.broadcast_to(np.eye(3) if rotation is None else rotation, (len(positions), 3, 3))
    return Trajectory(rigid(rotations, np.array(positions, float)), None if times is None else np.array(times, float))


def about_z(degrees):
    turn = np.radians(degrees)
    return np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])


def test_both_formats_state_the_same_poses(tmp_path) -> None:
    (tmp_path / "kitti.txt").write_text("1 0 0 1 0 1 0 2 0 0 1 3\n0 -1 0 4 1 0 0 5 0 0 1 6\n")
    half = np.sqrt(0.5)
    (tmp_path / "tum.txt").write_text(f"# time tx ty tz qx qy qz qw\n.5 1 2 3 0 0 0 2\n1.5,4,5,6,0,0,{half},{half}\n")
    kitti, tum = (read_trajectory(tmp_path / f"{name}.txt") for name in ("kitti", "tum"))
    assert np.allclose(kitti.poses, tum.poses, atol=1e-12) and np.array_equal(kitti.poses[1, :3, :3], QUARTER)
    assert kitti.times is None and tum.times.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; allowed are KITTI"),
        ("1 2 3\n", "3 numbers in its first line"),
        ("1 0 0 1 0 1 0 2 0 0 1 3\n1 0 0\n", "line 2: '1 0 0' is not KITTI"),
        ("1 0 0 1 0 1 0 2 0 0 2 3\n", "line 1: columns 1-3, 5-7 and 9-11 are no rotation"),
        ("1 0 0 1 0 1 0 2 0 0 -1 3\n", "no rotation matrix"),  # a reflection
        ("0 1 2 3 0 0 0 0\n", "quaternion is 0 0 0 0"),
        ("1 1 2 3 0 0 0 1\n1 1 2 3 0 0 0 1\n", "line 2: its time is not after"),
        ("1 1 2 3 0 0 nan 1\n", "0 numbers in its first line"),
    ],
)
def test_files_that_are_no_trajectories(tmp_path, text, message) -> None:
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_trajectory(tmp_path / "poses.txt")


def test_times_belong_together_one_to_one() -> None:
    truth = along(*[(k, 0, 0) for k in range(4)], times=[0, 1, 2, 3])
    estimate = along(*[(k, 0, 0) for k in range(4)], times=[0.01, 0.015, 2.5, 3.001])
    ours, theirs = associate(truth, estimate)
    assert ours.times.tolist() == [0, 3] and theirs.times.tolist() == [0.01, 3.001]
    # 0.015 is nearest to 0, which has a nearer one; 1 is nearest to it and stays alone.
    assert associate(truth, estimate, 0.6)[1].times.tolist() == [0.01, 2.5, 3.001]
    with pytest.raises(DataError, match="0 poses belong together"):
        associate(truth, Trajectory(estimate.poses, estimate.times + 100))
    with pytest.raises(DataError, match="one trajectory has times"):
        associate(truth, Trajectory(estimate.poses))
    with pytest.raises(DataError, match="3 estimated poses for 4 true ones"):
        associate(Trajectory(truth.poses), Trajectory(truth.poses[:3]))


def test_angles_keep_small_and_large_ones() -> None:
    turns = np.array([0.0, 1e-7, 1.0, 90.0, 179.9999, 180.0])
    assert np.allclose(angles(np.stack([about_z(each) for each in turns])), turns, rtol=1e-7)
    assert np.allclose(of_quaternions(np.array([[0, 0, np.sin(0.5), np.cos(0.5)]])), about_z(np.degrees(1)))


def test_umeyama_finds_what_moved_the_points() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 3))
    known = Similarity(about_z(130), np.array([1.0, -2.0, 3.0]), 2.5)
    found = umeyama(points, 2.5 * points @ about_z(130).T + known.translation, with_scale=True)
    for ours, true in zip(found, known, strict=True):
        assert np.allclose(ours, true, atol=1e-10)
    # Points that were reflected: the nearest motion is still a rotation.
    assert np.linalg.det(umeyama(points, points * (1, 1, -1)).rotation) == pytest.approx(1)
    with pytest.raises(DataError, match="does not move"):
        umeyama(np.ones((3, 3)), points[:3], with_scale=True)
    assert turns_freely(np.arange(6.0)[:, None] * (1, 2, 3)) and not turns_freely(points)
    moved = known.apply(along((1, 0, 0), rotation=QUARTER))
    assert np.allclose(moved.poses[0, :3, :3], about_z(220)) and np.allclose(
        motions(moved.poses, moved.poses), np.eye(4)
    )


def test_errors_by_hand() -> None:
    truth = along((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0))
    estimate = Trajectory(truth.poses.copy())
    estimate.poses[2:, 1, 3] = 0.5  # a jump to the side that stays
    estimate.poses[2:, :3, :3] = about_z(90)
    errors = absolute_errors(estimate, truth)
    assert errors.translation.tolist() == [0, 0, 0.5, 0.5] and np.allclose(errors.rotation, [0, 0, 90, 90])
    step = relative_errors(estimate, truth, pose_pairs(estimate))
    # The last motion is seen from a camera that was turned: (0, -1, 0) in place of (1, 0, 0).
    assert np.allclose(step.translation, [0, 0.5, np.sqrt(2)]) and np.allclose(step.rotation, [0, 90, 0])
    assert statistics(np.array([1.0, 2.0, 3.0])) == pytest.approx(
        {"rmse": np.sqrt(14 / 3), "mean": 2, "median": 2, "std": np.sqrt(2 / 3), "min": 1, "max": 3}
    )


def test_pairs_by_frames_and_by_meters() -> None:
    trajectory = along(*[(x, 0, 0) for x in (0, 1, 3, 4, 6)])
    assert pose_pairs(trajectory, 2).tolist() == [[0, 2], [2, 4]]
    assert pose_pairs(trajectory, 2, all_pairs=True).tolist() == [[0, 2], [1, 3], [2, 4]]
    assert pose_pairs(trajectory, 2, "meters").tolist() == [[0, 2], [2, 4]]
    assert pose_pairs(trajectory, 2, "meters", all_pairs=True).tolist() == [[0, 2], [1, 2], [2, 4], [3, 4]]
    with pytest.raises(DataError, match=r"no two poses are 7 meters apart: the estimate has 5 poses and a path of 6 m"):
        pose_pairs(trajectory, 7, "meters")


def test_snippets_divide_the_root_by_the_frames() -> None:
    truth = along((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 1, 0))
    estimate = along((5, 0, 0), (5.5, 0, 0), (6, 0, 0), (6.5, 0, 0))  # half as long, elsewhere
    found = snippet_errors(estimate, truth, frames=3)
    # The first fits exactly once it is scaled by 2. In the second the truth is (0, 0), (1, 0), (2, 1), the estimate
    # (0, 0), (.5, 0), (1, 0): scale 2 again, and 1 m is left: sqrt(1) / 3.
    assert np.allclose(found, [0, 1 / 3])
    standing = along(*[(1, 1, 1)] * 3)
    assert np.allclose(
        snippet_errors(standing, truth.at(np.arange(3)), 3), np.sqrt(1 + 4) / 3
    )  # no scale: nothing is left
    with pytest.raises(DataError, match="make no snippet of 5"):
        snippet_errors(estimate, truth)


def test_the_drawing_shows_both() -> None:
    turn = np.linspace(0, 2 * np.pi, 50)
    truth = along(*np.stack([3 * np.cos(turn), 0 * turn, np.sin(turn)], axis=1))
    estimate = Trajectory(truth.poses + np.eye(4)[None] * 0)
    estimate.poses[:, 2, 3] += 0.5
    image = draw_trajectories(truth, estimate)
    assert isinstance(image, Image.Image)
    pixels = np.asarray(image)[:, :560]
    for color in ((0, 114, 178), (213, 94, 0)):
        rows, columns = (pixels[90:] == color).all(axis=2).nonzero()
        # An ellipse three times as wide as tall stays so: both axes have one scale.
        assert np.ptp(columns) / np.ptp(rows) == pytest.approx(3, rel=0.12)
