"""The table of camera motion beside the essential matrix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.camera_motion_floors import clips, essential_matrix, main
from tasks.camera_motion.task import CameraMotionTask
from tests.contracts.cases import SIZE
from visionkit.checkpoint import save_checkpoint
from visionkit.geometry import InputSpec
from visionkit.trajectories.poses import angles, motions


def test_a_model_and_the_floors_are_measured_on_the_same_clips(tmp_path: Path) -> None:
    spec = InputSpec(size=SIZE, resize_mode="stretch", frames=3)
    task = CameraMotionTask("test_resnet", unet={"channels": [32, 24, 16, 8, 8]}, pose_network="posenet", input=spec)
    save_checkpoint(task, tmp_path / "a.ckpt")
    assert main([str(tmp_path / "a.ckpt"), "--clips", "2", "--out", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert len(found) == 4 and all(np.isfinite(list(row.values())).all() for row in found.values())
    rest, one, true, _ = found.values()
    assert true["ate"] < rest["ate"] and one["abs_rel"] == rest["abs_rel"]


def test_the_essential_matrix_finds_where_the_camera_went() -> None:
    (batch,) = clips(1, InputSpec(size=(96, 128), resize_mode="stretch", frames=3))
    found, _ = essential_matrix(batch, True)
    poses = batch["target"]["pose"].numpy()
    true = motions(poses[:-1], poses[1:])
    assert np.allclose(np.linalg.norm(found[1:, :3, 3], axis=1), np.linalg.norm(true[:, :3, 3], axis=1), atol=1e-6)
    assert np.median(angles(found[1:, :3, :3])) < 1, "the camera never turns"
    cosines = (found[1:, :3, 3] * true[:, :3, 3]).sum(1) / np.linalg.norm(true[:, :3, 3], axis=1) ** 2
    assert np.median(cosines) > 0.7, "most steps point where the camera went"
