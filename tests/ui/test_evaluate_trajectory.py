"""`visionkit evaluate trajectory`: known numbers of KITTI 00, and mistakes in one line."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.real_data import real_data
from ui.cli import main


def run(tmp_path, *arguments):
    out = tmp_path / "results.json"
    assert main(["evaluate", "trajectory", *map(str, arguments), "--results", str(out)]) == 0
    return json.loads(out.read_text())


def failed(capsys, status, *arguments):
    assert main(["evaluate", "trajectory", *map(str, arguments)]) == status
    return capsys.readouterr().err


@pytest.fixture
def kitti():
    home = real_data("camera_pose/evo_kitti00")
    return home, ["--gt", home / "KITTI_00_gt.txt", "--pred", home / "KITTI_00_ORB.txt"]


def stored(path, name):
    with zipfile.ZipFile(path) as archive:
        return np.load(io.BytesIO(archive.read(name))) if name.endswith("npz") else json.loads(archive.read(name))


def row(record, name):
    return next(each for each in record["tables"]["statistics"] if each["error"] == name)


def test_ape_of_kitti_equals_the_stored_results(tmp_path, kitti) -> None:
    home, files = kitti
    record = run(tmp_path, *files, "--draw", tmp_path / "drawn" / "both.png")
    ape, known = row(record, "APE meters"), stored(home / "res_files" / "orb_ape.zip", "stats.json")
    for name in ("rmse", "mean", "median", "std", "max", "min"):
        assert ape[name] == pytest.approx(known[name], rel=1e-9)
    assert record["metrics"]["ape_rmse"] == pytest.approx(1.3034497, abs=5e-8)
    assert "4541 poses; APE after SE(3) alignment" in record["protocol"]
    errors = stored(home / "res_files" / "orb_ape.zip", "error_array.npz")
    assert np.allclose([each["ape"] for each in record["tables"]["per image"]], errors, atol=1e-8)
    assert Image.open(tmp_path / "drawn" / "both.png").size[0] > 1000
    assert run(tmp_path, *files, "--alignment", "none")["metrics"]["ape_rmse"] == pytest.approx(7.7902889, abs=5e-8)


def test_rpe_of_kitti_equals_the_stored_results(tmp_path, kitti) -> None:
    home, files = kitti
    ten = ["--delta", "10", "--delta-unit", "meters"]
    record = run(tmp_path, *files, *ten, "--alignment", "none")
    # .2367636 where the rounded rotations of the file are inverted as any matrix, .23676347 where they are transposed.
    assert record["metrics"]["rpe_rmse"] == pytest.approx(0.2367636, abs=2e-7)
    assert "354 consecutive pairs" in record["protocol"]
    # An alignment without a scale moves no motion.
    assert run(tmp_path, *files, *ten)["metrics"]["rpe_rmse"] == pytest.approx(0.2367635, abs=1e-6)
    # The stored results leave the first pair out.
    from visionkit.trajectories.pose_files import read_trajectory
    from visionkit.trajectories.trajectory_errors import pose_pairs, relative_errors, statistics

    truth, estimate = read_trajectory(files[1]), read_trajectory(files[3])
    errors = relative_errors(estimate, truth, pose_pairs(estimate, 10, "meters"))
    assert errors.translation[0] == pytest.approx(1.3313937, abs=2e-6)
    start, end = pose_pairs(estimate, 10, "meters").T
    true, found = (np.linalg.inv(each.poses[start]) @ each.poses[end] for each in (truth, estimate))
    lengths = np.linalg.norm((np.linalg.inv(true) @ found)[:, :3, 3], axis=1)
    assert statistics(lengths)["rmse"] == pytest.approx(0.2367636, abs=5e-8)
    known = stored(home / "res_files" / "orb_rpe.zip", "stats.json")
    assert statistics(errors.translation[1:])["rmse"] == pytest.approx(known["rmse"], rel=1e-8)
    assert known["rmse"] == pytest.approx(0.2262613, abs=5e-8) and len(errors.translation) == 354


def test_the_scale_of_one_camera(tmp_path) -> None:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(8, 3)).cumsum(axis=0)
    lines = [f"{k} {x} {y} {z} 0 0 0 1" for k, (x, y, z) in enumerate(places)]
    smaller = [f"{k + 0.001} {x} {y} {z} 0 0 0 1" for k, (x, y, z) in enumerate(places / 4)]
    (tmp_path / "gt.txt").write_text("\n".join(lines))
    (tmp_path / "found.txt").write_text("\n".join(smaller[:6]))
    record = run(tmp_path, tmp_path / "gt.txt", tmp_path / "found.txt", "--alignment", "sim3")
    assert "scale 4)" in record["protocol"]
    assert all(abs(value) < 1e-5 for value in record["metrics"].values())
    assert "2 of 8 poses" in record["notes"][0] and len(record["tables"]["per image"]) == 6
    assert run(tmp_path, tmp_path / "gt.txt", tmp_path / "found.txt")["metrics"]["ape_rmse"] > 0.1


def test_mistakes_are_one_line(tmp_path, capsys) -> None:
    poses = tmp_path / "poses.txt"
    poses.write_text("".join(f"1 0 0 {k} 0 1 0 0 0 0 1 0\n" for k in range(3)))
    both = ["--gt", poses, "--pred", poses]
    assert "lie on a line" in run(tmp_path, *both)["notes"][0]
    assert "--gt GT.txt and --pred POSES.txt are needed" in failed(capsys, 2, "--gt", poses)
    assert "did you mean 'sim3'" in failed(capsys, 2, *both, "--alignment", "sim")
    assert "did you mean 'meters'" in failed(capsys, 2, *both, "--delta-unit", "metres")
    assert "--delta 0.5: allowed" in failed(capsys, 2, *both, "--delta", "0.5")
    assert "--snippet 1: at least 2" in failed(capsys, 2, *both, "--snippet", "1")
    assert "give the name of a .png" in failed(capsys, 2, *both, "--draw", "a.jpg")
    assert "--border: is for images" in failed(capsys, 2, *both, "--border", "1")
    assert "no such file of poses" in failed(capsys, 3, "--gt", poses, "--pred", tmp_path / "no.txt")
    assert "choose a smaller --delta" in failed(capsys, 3, *both, "--delta", "9")
