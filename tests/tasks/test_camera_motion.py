"""Camera motion: the algebra of poses, what the loss prefers, and what reaches people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from datamodules.clip_data import ClipData
from tasks.camera_motion.loss import NeighborRule, PhotometricLoss, unlikeness
from tasks.camera_motion.metrics import KnownDepthMeasures, TrajectoryErrors
from tasks.camera_motion.network import MotionOutputs, to_others
from tasks.camera_motion.pose_network import PoseNet
from tests.contracts.cases import build
from ui.cli import main
from visionkit.checkpoint import save_checkpoint
from visionkit.errors import UsageError
from visionkit.families.matching.reprojection import inverse_motion, motion_matrix, reprojected
from visionkit.geometry import InputSpec
from visionkit.predictions import CameraMotion
from visionkit.predictor import Predictor
from visionkit.preprocess import Preprocessor
from visionkit.synthetic import ClipSettings, make_clip
from visionkit.trajectories.pose_files import read_trajectory, tum_text
from visionkit.trajectories.poses import chained, motions
from visionkit.types import View

SETTINGS = ClipSettings(size=(64, 80), length=6, speed=0.0, camera_speed=0.3, reach=3.0)


def test_the_pose_network_has_the_papers_size() -> None:
    assert sum(each.numel() for each in PoseNet(3).parameters()) == 1_590_668


def test_motions_are_rotations_with_a_gradient_also_at_rest() -> None:
    vector = torch.randn(5, 6, dtype=torch.float64)
    x, y, z = vector[:, :3].T
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    motion = motion_matrix(vector)
    torch.testing.assert_close(motion[:, :3, :3], torch.linalg.matrix_exp(cross))
    torch.testing.assert_close(motion @ inverse_motion(motion), torch.eye(4, dtype=torch.float64).expand(5, 4, 4))
    for start in (vector, torch.zeros(1, 6, dtype=torch.float64)):
        assert torch.autograd.gradcheck(motion_matrix, (start.requires_grad_(),), atol=1e-4)


def test_points_are_where_the_drawn_clip_shows_them() -> None:
    clip = make_clip(1, 4, SETTINGS)
    first, last = clip.frame(0), clip.frame(4)
    way = torch.from_numpy(motions(last.pose, first.pose))[None]  # points of the first camera, as the last sees them
    intrinsics = torch.tensor([list(clip.camera)], dtype=torch.float64)
    places, is_inside = reprojected(torch.from_numpy(first.depth)[None].double(), way, intrinsics)
    y, x = np.mgrid[:64, :80] + 0.5
    true, rests = clip.motion(0, 4), first.ids == 0  # objects move a little by themselves
    np.testing.assert_allclose((places[0, ..., 0].numpy() - x)[rests], true.flow[0][rests], atol=1e-3)
    np.testing.assert_allclose((places[0, ..., 1].numpy() - y)[rests], true.flow[1][rests], atol=1e-3)
    assert is_inside[0].numpy()[true.visible & rests].all() and not is_inside.all()


def test_motions_to_others_are_those_of_the_poses() -> None:
    poses = motion_matrix(torch.randn(5, 6, dtype=torch.float64))
    between = inverse_motion(poses[:-1]) @ poses[1:]
    joined = chained(np.concatenate([np.eye(4)[None], between.numpy()]))
    np.testing.assert_allclose(joined, motions(poses[:1].numpy(), poses.numpy()), atol=1e-12)
    for shown in (2, 4):
        ways = to_others(between[None], shown)
        others = [k for k in range(5) if k != shown]
        for way, k in zip(ways, others, strict=True):
            torch.testing.assert_close(way[0], inverse_motion(poses[k]) @ poses[shown])


def test_posenet_gives_motions_that_agree_with_those_from_the_middle() -> None:
    network = PoseNet(3, width=4).double()
    torch.nn.init.normal_(network.layers[-1].bias, std=30.0)
    found = network(torch.randn(1, 3, 3, 64, 64, dtype=torch.float64))
    to_first, to_last = to_others(found, 1)
    assert (to_first - torch.eye(4)).abs().max() > 0.01
    torch.testing.assert_close(found[:, 0], to_first)
    torch.testing.assert_close(inverse_motion(found[:, 1]), to_last)


def test_posenet_begins_with_motions_that_differ_between_clips() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        found = PoseNet(3)(torch.randn(4, 3, 3, 96, 128))
    steps = found[:, :, :3, 3]
    assert steps.std(dim=0).mean() > 0.1 * steps.abs().mean(), "the one and the other clip move alike"
    assert 1e-4 < steps.abs().mean() < 0.1, "all of them hardly move"


def drawn(**options: Any) -> tuple[torch.Tensor, torch.Tensor, Callable[[torch.Tensor, torch.Tensor], float]]:
    """True depth and motions of a drawn clip, and the loss of any of them."""
    clip = make_clip(1, 4, SETTINGS)
    frames = [clip.frame(k) for k in (0, 2, 4)]
    images = torch.stack([torch.from_numpy(each.image).permute(2, 0, 1) for each in frames])[None].float() / 255
    poses = np.stack([each.pose for each in frames])
    between = torch.from_numpy(motions(poses[:-1], poses[1:])).float()[None]
    intrinsics = torch.tensor([list(clip.camera)])

    def loss(depth: torch.Tensor, between: torch.Tensor) -> float:
        terms = PhotometricLoss(scales=2, **options)(MotionOutputs(depth, between, None, 1), images, intrinsics)
        return float(terms["photometric"])

    return torch.from_numpy(frames[1].depth)[None], between, loss


@pytest.mark.parametrize("auto_mask", [False, True])
@pytest.mark.parametrize("neighbors", ["best", "mean"])
def test_the_loss_prefers_the_truth(auto_mask: bool, neighbors: str) -> None:
    depth, between, loss = drawn(auto_mask=auto_mask, neighbors=neighbors)
    true = loss(depth, between)
    assert true < 0.8 * loss(depth * 0.6, between) and true < 0.5 * loss(depth, torch.eye(4).expand(1, 2, 4, 4))
    larger = between * torch.tensor([[1, 1, 1, 3], [1, 1, 1, 3], [1, 1, 1, 3], [1, 1, 1, 1]])
    assert true == pytest.approx(loss(depth * 3, larger), rel=1e-3), "one unit for both"


def test_the_mean_of_neighbors_counts_one_that_the_best_hides() -> None:
    own, unlike = torch.rand(2, 1, 3, 32, 32).unbind(0)
    frames, at_rest = torch.stack([own, own, unlike], 1), torch.eye(4).expand(1, 2, 4, 4)
    outputs = MotionOutputs(torch.ones(1, 32, 32), at_rest, None, 1)
    intrinsics = torch.tensor([[30.0, 30, 16, 16]])
    best, mean = (
        PhotometricLoss(scales=1, auto_mask=False, neighbors=rule)(outputs, frames, intrinsics)["photometric"]
        for rule in get_args(NeighborRule)
    )
    torch.testing.assert_close(best, torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(mean, unlikeness(unlike[None], own, 0.85).mean() / 2)


def test_structure_is_that_of_averages_over_windows() -> None:
    own, other = torch.rand(2, 2, 3, 12, 16).unbind(0)
    x, y = (F.pad(each, (1, 1, 1, 1), mode="reflect") for each in (own, other))
    mean_x, mean_y, of_x, of_y, of_both = (F.avg_pool2d(each, 3, 1) for each in (x, y, x * x, y * y, x * y))
    top = (2 * mean_x * mean_y + 1e-4) * (2 * (of_both - mean_x * mean_y) + 9e-4)
    bottom = (mean_x**2 + mean_y**2 + 1e-4) * (of_x - mean_x**2 + of_y - mean_y**2 + 9e-4)
    found = unlikeness(torch.stack([other, own]), own, 0.85)
    true = 0.15 * (own - other).abs().mean(1) + 0.85 * ((1 - top / bottom) / 2).clamp(0, 1).mean(1)
    torch.testing.assert_close(found, torch.stack([true, torch.zeros_like(true)]))


def test_a_clip_that_stands_still_trains_nothing() -> None:
    still = torch.rand(1, 1, 3, 32, 32).expand(1, 3, 3, 32, 32)
    depth = torch.rand(1, 32, 32).requires_grad_()
    outputs = MotionOutputs(1 + depth, motion_matrix(torch.randn(1, 2, 6) / 10), None, 1)
    terms = PhotometricLoss()(outputs, still, torch.tensor([[30.0, 30, 16, 16]]))
    assert terms["photometric"] == 0 and torch.isfinite(terms["smoothness"])


def test_trajectory_errors_do_not_depend_on_the_unit() -> None:
    poses = torch.from_numpy(np.stack([make_clip(3, 1, SETTINGS).frame(k).pose for k in range(6)]))
    between = torch.cat([torch.eye(4)[None].double(), inverse_motion(poses[:-1]) @ poses[1:]])
    between[:, :3, 3] *= 7
    metric = TrajectoryErrors()
    for rows in (slice(3, 6), slice(0, 3), slice(0, 1)):  # in any order, and one of them twice
        metric.update(between[rows], poses[rows], ["a"] * len(poses[rows]), list(range(6))[rows])
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in metric.compute().values())
    metric.reset()
    metric.update(torch.eye(4).expand(6, 4, 4), poses, ["a"] * 6, list(range(6)))
    spread = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    assert float(metric.compute()["ate"]) == pytest.approx(float(spread.square().sum(1).mean().sqrt()), rel=1e-5)
    alone = metric.compute()
    metric.update(torch.eye(4).expand(6, 4, 4), torch.full((6, 4, 4), torch.nan), ["b"] * 6, list(range(6)))
    assert metric.compute() == alone, "a sequence without known poses"


def test_nothing_is_stated_of_what_is_not_known() -> None:
    metric = TrajectoryErrors()
    assert metric.compute() == {} == KnownDepthMeasures(80, "median").compute()
    metric.update(torch.eye(4).expand(6, 4, 4), torch.full((6, 4, 4), torch.nan), ["a"] * 6, list(range(6)))
    assert metric.compute() == {}
    depth = KnownDepthMeasures(80, "median")
    depth.update(torch.ones(1, 4, 4), torch.zeros(1, 4, 4))
    assert float(depth.compute()["unmeasured"]) == 1


def test_intrinsics_follow_the_input() -> None:
    data = ClipData("motion", count=1, eval_count=1, clip=SETTINGS)
    sample = data.samples("train")[0]
    fx, fy, cx, cy = np.asarray(sample.target["intrinsics"]).tolist()  # type: ignore[typeddict-item]
    spec = InputSpec((32, 80), "stretch")
    found = Preprocessor(spec)(sample)["target"]["intrinsics"].tolist()
    assert found == pytest.approx([fx, fy / 2, cx, cy / 2])
    flipped = sample.changed(view=View((0, 0, 80, 64), flip=True))
    assert Preprocessor(spec)(flipped)["target"]["intrinsics"].tolist() == pytest.approx([fx, fy / 2, 80 - cx, cy / 2])


def test_a_session_adds_up_motions_and_the_command_writes_them(tmp_path: Path, capsys: Any) -> None:
    torch.manual_seed(0)
    task = build("camera_motion").eval()
    torch.nn.init.normal_(task.network.pose.head[-1].weight, std=1.0)
    save_checkpoint(task, tmp_path / "a.ckpt")
    frames = [np.random.default_rng(k).integers(0, 256, (40, 60, 3), dtype=np.uint8) for k in range(4)]
    (tmp_path / "frames").mkdir()
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frames/{k}.png")
    session = Predictor(task).session()
    found = [session.step(frame) for frame in frames]
    assert all(isinstance(each, CameraMotion) for each in found)
    poses = chained(np.stack([each.motion for each in found]))  # type: ignore[attr-defined]
    np.testing.assert_allclose([each.pose for each in found], poses)  # type: ignore[attr-defined]
    assert np.abs(poses[-1] - np.eye(4)).max() > 1e-3
    for layout in ("kitti", "tum"):
        out = tmp_path / f"{layout}.txt"
        command = ["trajectory", str(tmp_path / "a.ckpt"), str(tmp_path / "frames"), "--out", str(out)]
        assert main([*command, "--format", layout]) == 0
        np.testing.assert_allclose(read_trajectory(out).poses, poses, atol=1e-5)
        assert main([*command, "--format", layout]) == 2 and "--overwrite" in capsys.readouterr().err


def test_quaternions_of_half_turns_survive(tmp_path: Path) -> None:
    turns = [np.diag([1.0, -1, -1, 1]), np.diag([-1.0, 1, -1, 1]), np.diag([-1.0, -1, 1, 1]), np.eye(4)]
    (tmp_path / "a.txt").write_text(tum_text(range(4), turns))
    np.testing.assert_allclose(read_trajectory(tmp_path / "a.txt").poses, turns, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose_network": "pair"}, "model.pose_network 'pair': allowed are pairs, posenet; did you mean 'pairs'"),
        ({"nearest": 5, "farthest": 2}, "give depths above 0, nearest first"),
        ({"input": InputSpec((64, 64), "stretch", frames=2)}, "give an odd number from 3 on"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build("camera_motion", **options)
