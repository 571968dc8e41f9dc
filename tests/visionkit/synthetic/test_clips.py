"""Clips whose motion, depth, masks and visibility are exact, and the layouts that they are written in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.mot import MotData
from ui.cli import main
from visionkit.camera import CameraIntrinsics
from visionkit.errors import UsageError
from visionkit.synthetic import ClipSettings, DrawnClip, make_clip
from visionkit.synthetic.clip_files import write_clips
from visionkit.synthetic.planes import render
from visionkit.trajectories.pose_files import read_trajectory

SMALL = ClipSettings(size=(64, 80), length=4, speed=0.06)
WHOLE = replace(SMALL, whole_pixels=True, camera_speed=0.2, objects=(5, 6))


def edges(ids: np.ndarray) -> np.ndarray:
    """Pixels beside another plane, whose colors are mixed."""
    low, high = (np.asarray(each(ids, np.ones((3, 3), np.uint8))) for each in (cv2.erode, cv2.dilate))
    return low != high


def warped(clip: DrawnClip, number: int) -> tuple[np.ndarray, np.ndarray]:
    """What the next frame shows where each pixel went, and where that can be compared."""
    here, there = clip.frame(number), clip.frame(number + 1)
    moved = clip.motion(number, number + 1)
    rows, columns = np.mgrid[: here.ids.shape[0], : here.ids.shape[1]].astype(np.float32)
    x, y = columns + moved.flow[0], rows + moved.flow[1]
    image, mixed = (
        cv2.remap(each, x, y, cv2.INTER_LINEAR) for each in (there.image, edges(there.ids).astype(np.float32))
    )
    return image, moved.visible & ~edges(here.ids) & (mixed == 0)


def test_flow_takes_each_pixel_that_is_not_hidden_to_its_own_color() -> None:
    moving, hidden = 0, 0
    for index in range(4):
        clip = make_clip(1, index, WHOLE)
        for number in range(3):
            image, clear = warped(clip, number)
            apart = np.abs(image.astype(int) - clip.frame(number).image)[clear]
            assert apart.max() <= 1 and clear.mean() > 0.5
            moved = clip.motion(number, number + 1)
            assert np.abs(moved.flow - np.round(moved.flow)).max() < 1e-4
            moving += int(np.abs(moved.flow).max() >= 1)
            hidden += int((~moved.visible).sum())
    assert moving >= 8 and hidden > 100


def test_flow_is_exact_under_a_camera_that_goes_forward_over_a_floor() -> None:
    clip = make_clip(2, 1, SMALL)
    for number in range(3):
        image, clear = warped(clip, number)
        apart = np.abs(image.astype(int) - clip.frame(number).image)[clear]
        assert apart.mean() < 2 and clear.mean() > 0.5
        assert np.abs(np.modf(clip.motion(number, number + 1).flow)[0]).max() > 0.1


def test_what_is_not_visible_shows_another_object_or_left_the_image() -> None:
    clip = make_clip(1, 3, WHOLE)
    moved, ids, there = clip.motion(0, 2), clip.frame(0).ids, clip.frame(2).ids
    rows, columns = np.mgrid[: ids.shape[0], : ids.shape[1]]
    x, y = (np.round(part + at).astype(int) for part, at in zip(moved.flow, (columns, rows), strict=True))
    inside = (x >= 0) & (x < ids.shape[1]) & (y >= 0) & (y < ids.shape[0])
    same = inside & (there[np.where(inside, y, 0), np.where(inside, x, 0)] == ids)
    assert (moved.visible == same).all() and (~inside).any() and (inside & ~same).any()


def test_two_cameras_of_one_time_are_a_rectified_pair() -> None:
    clip = make_clip(0, 5, SMALL)
    left = clip.frame(1)
    pair = clip.motion(1, 1, other_offset=(0.2, 0.0, 0.0))
    np.testing.assert_allclose(pair.flow[0], -clip.camera.fx * 0.2 / left.depth, rtol=1e-4)
    np.testing.assert_allclose(pair.flow[1], 0, atol=1e-4)
    np.testing.assert_allclose(pair.depth, left.depth, rtol=1e-5)
    assert np.abs(left.image.astype(int) - clip.frame(1, (0.2, 0.0, 0.0)).image).max() > 50


def test_depth_after_the_motion_is_that_of_the_other_frame() -> None:
    clip = make_clip(0, 6, SMALL)
    moved, here, there = clip.motion(0, 3), clip.frame(0), clip.frame(3)
    nearer = 0
    for each in here.objects:
        mask = (here.ids == each.id) & moved.visible
        if mask.any():
            np.testing.assert_allclose(moved.depth[mask], there.depth[there.ids == each.id][0], rtol=1e-5)
            nearer += int(abs(float(moved.depth[mask][0]) - each.distance) > 1e-3)
    assert nearer and (here.pose != there.pose).any() and here.depth.min() > 1


def test_visibility_is_the_visible_part_of_the_whole_object() -> None:
    clip = make_clip(1, 2, replace(SMALL, objects=(6, 6)))
    margin, partly = 100, 0
    for number in range(4):
        frame, view = clip.frame(number), clip._view(float(number), (0.0, 0.0, 0.0))
        fx, fy, cx, cy = view.camera
        wide = replace(
            view, camera=CameraIntrinsics(fx, fy, cx + margin, cy + margin), size=(64 + 2 * margin, 80 + 2 * margin)
        )
        for each in frame.objects:
            mask, first = frame.ids == each.id, len(clip.world.background)
            alone = render(clip.world.background, [clip.world.objects[each.id - 1]], wide).owner == first
            assert each.area == mask.sum() and each.visibility == pytest.approx(mask.sum() / alone.sum())
            rows, columns = np.nonzero(alone)
            whole = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - margin
            assert each.whole.tolist() == whole.tolist()
            rows, columns = np.nonzero(mask)
            assert each.box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            partly += each.visibility < 0.95
    assert partly >= 3


def test_a_clip_is_always_the_same_and_no_other() -> None:
    seen = {make_clip(seed, index, SMALL).frame(2).image.tobytes() for seed in range(2) for index in range(3)}
    assert len(seen) == 6
    first, again = make_clip(0, 1, SMALL), make_clip(0, 1, SMALL)
    again.frame(3)
    assert (first.frame(2).image == again.frame(2).image).all()


def test_blur_and_noise_change_the_image_and_no_label() -> None:
    sharp, blurred, noisy = (
        make_clip(0, 1, replace(SMALL, speed=0.1, **how)) for how in ({}, {"blur": 1.0}, {"noise": 5.0})
    )
    apart = [float(np.abs(sharp.frame(k).image.astype(int) - blurred.frame(k).image).max()) for k in range(4)]
    assert max(apart) > 30
    assert max(blurred.frame(k).exposure for k in range(4)) > 0.3 and sharp.frame(0).exposure == 0
    assert all((sharp.frame(k).ids == blurred.frame(k).ids).all() for k in range(4))
    rest = noisy.frame(1).image.astype(float) - sharp.frame(1).image
    assert 3 < rest.std() < 7 and (noisy.frame(1).image != noisy.frame(2).image).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (16, 64)}, "sides of at least 32"),
        ({"length": 0}, "at least 1 frame"),
        ({"objects": (3, 2)}, "smallest and the largest"),
        ({"speed": -1.0}, "numbers from 0 on"),
        ({"blur": 0.5, "whole_pixels": True}, "leave it out"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClipSettings(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "set"
    assert write_clips(out, 4, seed=1, settings=SMALL) == {"train": 2, "val": 1, "test": 1}
    return out


def test_motchallenge_has_the_whole_boxes_with_ids_and_visibility(folder: Path) -> None:
    data = MotData(str(folder / "mot"))
    samples, clip = data.samples("train"), make_clip(1, 1, SMALL)
    assert samples.sequences() == ["train_0000"] * 4 + ["train_0001"] * 4
    rows = data.truth("train_0001")
    frame = clip.frame(2)
    own = rows.chosen(rows.frames == 3)
    assert own.ids.tolist() == [each.id for each in frame.objects]
    assert own.boxes.tolist() == [each.whole.tolist() for each in frame.objects]
    np.testing.assert_allclose(own.visibility, [each.visibility for each in frame.objects], atol=1e-4)
    assert own.scores.tolist() == [float(each.visibility >= 0.1) for each in frame.objects]
    assert data.samples("val").sequences() == ["val_0000"] * 4


def test_davis_has_the_id_of_each_pixel(folder: Path) -> None:
    names = (folder / "davis/ImageSets/2017/train.txt").read_text().split()
    assert names == ["train_0000", "train_0001"]
    frame = make_clip(1, 1, SMALL).frame(3)
    with Image.open(folder / "davis/Annotations/480p/train_0001/00003.png") as mask:
        assert mask.mode == "P" and (np.asarray(mask) == frame.ids).all()
    with Image.open(folder / "davis/JPEGImages/480p/train_0001/00003.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - frame.image).mean() < 3


def test_the_camera_is_written_beside_motchallenge(folder: Path) -> None:
    clip, at = make_clip(1, 1, SMALL), folder / "mot/train/train_0001"
    assert CameraIntrinsics.parse(str(at / "intrinsics.txt")) == pytest.approx(clip.camera, rel=1e-8)
    poses = [clip.frame(k).pose for k in range(4)]
    np.testing.assert_allclose(read_trajectory(at / "poses.txt").poses, poses, atol=1e-8)
    assert np.ptp(poses, axis=0).max() > 1e-3, "the camera moves"


def test_the_command_writes_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    given = ["--clips", "3", "--clip-length", "2", "--size", "32", "40"]
    assert main(["scenes", "--out", out, *given]) == 0
    assert "3 clips" in capsys.readouterr().out and len(list(tmp_path.rglob("*.JPEG"))) == 6
    assert main(["scenes", "--out", str(tmp_path / "other"), "--clips", "3", "--count", "5"]) == 2
    assert "leave --count and --max-size out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="at least 3 clips"):
        write_clips(tmp_path / "few", 2)
