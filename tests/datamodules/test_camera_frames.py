"""Videos of a moving camera: what is known of each frame, splits of whole sequences, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image

from datamodules.camera_frames import CameraFramesData
from tests.contracts.cases import build
from visionkit.checkup.examination import examine
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.inputs import Clip
from visionkit.sequences import SequencedSamples
from visionkit.trajectories.pose_files import kitti_text
from visionkit.video import VideoWriter

SIZE = (32, 40)
CAMERA = [44.0, 43.0, 20.5, 15.5]
SPEC = InputSpec(size=(64, 64), resize_mode="stretch", frames=3)


def frame(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def write(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    folder.mkdir(parents=True)
    for k in range(count):
        Image.fromarray(frame(seed + k, size)).save(folder / f"{k:03d}.png")


def write_poses(file: Path, count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 2, 3] = np.arange(count) / 4
    file.write_text(kitti_text(list(poses)))
    return poses


def data_of(root: Path, **arguments: Any) -> CameraFramesData:
    return CameraFramesData(str(root), **{"intrinsics": CAMERA, **arguments})


def places(data: CameraFramesData, split: Any) -> list[tuple[str, int]]:
    return [(each.sequence, each.frame) for each in data.samples(split)]


def test_frames_have_the_intrinsics_that_lie_nearest(tmp_path: Path) -> None:
    for k, name in enumerate(("a/img1", "b", "c")):
        write(tmp_path / name, 3, 10 * k)
    (tmp_path / "intrinsics.txt").write_text("50 51 20 16\n")
    (tmp_path / "a/intrinsics.txt").write_text("60, 61, 19, 15")
    (tmp_path / "b/intrinsics.txt").write_text("70 0 18\n0 71 14\n0 0 1\n")
    samples = data_of(tmp_path, val_fraction=0).samples("train")
    assert isinstance(samples, SequencedSamples)
    assert list(samples.sequences()) == ["a/img1"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [each.frame for each in samples] == [0, 1, 2] * 3
    assert np.array_equal(samples[4].image.read(), frame(11))
    found = [each.target["intrinsics"].tolist() for each in samples[::3]]
    assert found == [[60, 61, 19, 15], [70, 71, 18.5, 14.5], [50, 51, 20, 16]]
    (tmp_path / "intrinsics.txt").unlink()
    assert data_of(tmp_path, val_fraction=0).samples("train")[-1].target["intrinsics"].tolist() == CAMERA


def test_truth_is_measured_and_never_trained_on(tmp_path: Path) -> None:
    for name in ("train/a", "val/a/img1", "val/b"):
        write(tmp_path / name, 3)
    write_poses(tmp_path / "train/a/poses.txt", 3)
    poses = write_poses(tmp_path / "val/a/poses.txt", 3)
    meters = np.full(SIZE, 2.5, np.float32)
    (tmp_path / "val/b/depth").mkdir()
    np.save(tmp_path / "val/b/depth/001.npy", meters)
    data = data_of(tmp_path / "train", val_root=str(tmp_path / "val"))
    assert set(data.samples("train")[0].target) == {"intrinsics"}
    val = data.samples("val")
    assert len(val) == 6, "depth is no sequence"
    assert np.array_equal([each.target["pose"] for each in val[:3]], poses)
    assert np.isnan([each.target["pose"] for each in val[3:]]).all()
    assert [float(each.target["depth"].max()) for each in val] == [0, 0, 0, 0, 2.5, 0]
    assert "measured are poses of 1 and depth of 1" in "\n".join(data.summary("val").lines())
    write_poses(tmp_path / "val/poses.txt", 3)  # of which of the two sequences?
    (tmp_path / "val/a/poses.txt").unlink()
    again = data_of(tmp_path / "train", val_root=str(tmp_path / "val")).samples("val")
    assert set(again[0].target) == {"intrinsics", "depth"}


def test_whole_sequences_are_split_off_else_the_last_part_of_each(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / name, 3)
    data = data_of(tmp_path, val_fraction=0.25, test_fraction=0.25)
    found = {split: {name for name, _ in places(data, split)} for split in ("train", "val", "test")}
    assert [len(found[split]) for split in ("train", "val", "test")] == [2, 1, 1]
    assert set.union(*found.values()) == set("abcd")
    alone = tmp_path / "alone"
    write(alone, 10)
    data = data_of(alone, val_fraction=0.2, test_fraction=0.1, input=SPEC)
    assert places(data, "test") == [("alone", 9)] and places(data, "val") == [("alone", 7), ("alone", 8)]
    assert places(data, "train") == [("alone", k) for k in range(7)]
    clip = data.samples("val")[0].inputs["image"]
    assert isinstance(clip, Clip) and {each.name for each in clip.frames} == {str(alone / "007.png")}
    assert len(data_of(alone, val_fraction=1).samples("val")) == 10
    with pytest.raises(UsageError, match=r"no val split and data\.val_fraction is 0"):
        data_of(alone, val_fraction=0).samples("val")
    with pytest.raises(UsageError, match="leave some to train"):
        data_of(alone, val_fraction=0.6, test_fraction=0.5).samples("train")


def test_a_video_file_is_a_sequence(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "walk.mp4", 30) as writer:
        for k in range(4):
            writer.write(np.full((*SIZE, 3), 40 * k, np.uint8))
    (tmp_path / "walk.intrinsics.txt").write_text("60 61 19 15")
    poses = write_poses(tmp_path / "walk.poses.txt", 4)
    samples = data_of(tmp_path, val_fraction=1).samples("val")
    assert [each.id for each in samples] == [f"{tmp_path}/walk.mp4#{k}" for k in range(4)]
    assert abs(samples[3].image.read().mean() - 120) < 4
    assert samples[0].target["intrinsics"].tolist() == [60, 61, 19, 15]
    assert np.array_equal([each.target["pose"] for each in samples], poses)
    assert len(data_of(tmp_path / "walk.mp4", val_fraction=0).samples("train")) == 4
    with pytest.raises(DataError, match=r"more memory than data\.cache_mb 0; raise that, or unpack"):
        data_of(tmp_path, cache_mb=0).samples("train")


@pytest.mark.filterwarnings("ignore:You called", "ignore:The", "ignore:You have")
@pytest.mark.parametrize("has_poses", [True, False])
def test_a_step_is_trained_and_only_what_is_known_is_measured(tmp_path: Path, has_poses: bool) -> None:
    torch.manual_seed(0)
    write(tmp_path / "train/a", 4)
    write(tmp_path / "val/a", 5)
    write(tmp_path / "val/b", 5)
    if has_poses:
        write_poses(tmp_path / "val/b/poses.txt", 5)
    data = data_of(tmp_path / "train", val_root=str(tmp_path / "val"), input=SPEC, batch_size=4)
    task = build("camera_motion")
    before = [each.clone() for each in task.network.parameters()]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, data)
    assert any((old != new).any() for old, new in zip(before, task.network.parameters(), strict=True))
    values = trainer.callback_metrics
    assert torch.isfinite(values["val/loss"]) and "val/abs_rel" not in values
    assert ("val/ate" in values) == has_poses
    if has_poses:
        assert 0 < values["val/ate"] < 1


def test_doctor_examines_it(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    write(tmp_path / "b", 3, 10)
    (tmp_path / "b/intrinsics.txt").write_text("60 61 90 15")
    kinds = [each.kind for each in examine(data_of(tmp_path, val_fraction=0.5)).findings]
    assert kinds.count("invalid-intrinsics") >= 1 and "refused" not in kinds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"intrinsics": None},
            r"v: the intrinsics of its camera are not known; give --data\.intrinsics \[fx,",
        ),
        ({"intrinsics": [1, 2, 3]}, r"data.intrinsics \[1, 2, 3\]: give four numbers"),
        ({"intrinsics": [0, 2, 3, 4]}, "fx and fy above 0"),
        ({"pattern": "*.jpg"}, r"no frames here whose names match \*\.jpg"),
        ({"units_per_meter": 0}, "a number above 0"),
        ({"root": ""}, r"give their folder with --data\.root"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: Any, message: str) -> None:
    write(tmp_path / "v", 3)
    with pytest.raises((UsageError, DataError), match=message):
        CameraFramesData(**{"root": str(tmp_path), "intrinsics": CAMERA, **arguments}).samples("train")


def test_what_lies_beside_frames_must_fit_them(tmp_path: Path) -> None:
    write(tmp_path / "v", 3)
    write_poses(tmp_path / "v/poses.txt", 2)
    with pytest.raises(DataError, match=r"poses\.txt: 2 poses for 3 frames in .*v; give one line per frame"):
        data_of(tmp_path).samples("train")
    (tmp_path / "v/poses.txt").write_text("".join(f"{k} 0 0 {k} 0 0 0 1\n" for k in range(3)))
    with pytest.raises(DataError, match="a TUM text; give KITTI's"):
        data_of(tmp_path).samples("train")
    (tmp_path / "v/poses.txt").unlink()
    Image.fromarray(frame(0, (32, 48))).save(tmp_path / "v/003.png")
    with pytest.raises(DataError, match=r"003\.png: 48 x 32 pixels, and 000\.png has 40 x 32"):
        data_of(tmp_path).samples("train")
    (tmp_path / "v/003.png").unlink()
    (tmp_path / "v/intrinsics.txt").write_text("hello")
    with pytest.raises(DataError, match="holds no intrinsics"):
        data_of(tmp_path).samples("train")
    (tmp_path / "v/intrinsics.txt").unlink()
    (tmp_path / "v/depth").mkdir()
    np.save(tmp_path / "v/depth/000.npy", np.ones((32, 41), np.float32))
    with pytest.raises(DataError, match="a depth map of 41 x 32 pixels does not fit"):
        data_of(tmp_path, val_fraction=1).samples("val")[0]


def test_what_is_hardly_meant_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "v", 3)
    data_of(tmp_path).samples("train")
    assert not caplog.messages
    data_of(tmp_path, intrinsics=[0.6, 1.9, 0.5, 0.5]).samples("train")
    assert "hardly those of frames of 40 x 32 pixels" in caplog.text
    (tmp_path / "v/002.png").rename(tmp_path / "v/10.png")
    Image.fromarray(frame(0)).save(tmp_path / "v/9.png")
    data_of(tmp_path).samples("train")
    assert "fill the numbers up with zeros" in caplog.text
