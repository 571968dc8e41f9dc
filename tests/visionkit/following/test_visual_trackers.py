"""What every visual tracker keeps to: it follows a drawn object, twice in the same way, and refuses what is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.visionkit.following.drawn_clips import clip, drawn, moving
from visionkit.errors import DataError, UsageError
from visionkit.following import visual_tracker
from visionkit.following.visual_tracker import VisualTracker, make_visual_tracker, register, visual_tracker_names
from visionkit.tracking.boxes import box_ious

NAMES = visual_tracker_names()
COUNT = 14


@pytest.fixture(scope="module")
def frames() -> list[tuple[np.ndarray, np.ndarray]]:
    return clip(moving, COUNT)


@pytest.fixture(scope="module")
def made() -> dict[str, VisualTracker]:
    """Each once, since a network is built; `begin` begins again."""
    return {name: make_visual_tracker(name) for name in NAMES}


def followed(tracker: VisualTracker, frames) -> tuple[np.ndarray, np.ndarray]:
    tracker.begin(*frames[0])
    found = [tracker.update(frame) for frame, _ in frames[1:]]
    return np.array([each.box for each in found]), np.array([each.score for each in found])


def overlaps(boxes: np.ndarray, frames) -> np.ndarray:
    return np.array([box_ious(box[None], true[None])[0, 0] for box, (_, true) in zip(boxes, frames[1:], strict=True)])


def test_the_trackers_are_installed() -> None:
    assert {"hcf", "kcf"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_moving_square_is_followed_twice_in_the_same_way(name: str, made, frames) -> None:
    boxes, scores = followed(made[name], frames)
    assert overlaps(boxes, frames).min() > 0.8 and (scores > 0.2).all() and (scores <= 1).all()
    again, same = followed(made[name], frames)
    assert np.array_equal(boxes, again) and np.array_equal(scores, same)


@pytest.mark.parametrize("name", NAMES)
def test_a_gray_video_is_followed(name: str, made, frames) -> None:
    gray = [(frame.mean(axis=2).astype(np.uint8), box) for frame, box in frames]
    boxes, _ = followed(made[name], gray)
    assert overlaps(boxes, frames).min() > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_frames_that_are_views_backwards_are_taken(name: str, made, frames) -> None:
    made[name].begin(frames[0][0][..., ::-1], frames[0][1])
    box, _ = made[name].update(frames[1][0][..., ::-1])
    assert box_ious(box[None], frames[1][1][None])[0, 0] > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_an_object_of_a_few_pixels_is_followed(name: str, made) -> None:
    small = clip(lambda t: moving(t, 6), 10)
    boxes, _ = followed(made[name], small)
    centers = np.array([(true[:2] + true[2:]) / 2 for _, true in small[1:]])
    assert np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - centers).max() < 2


@pytest.mark.parametrize("name", NAMES)
def test_a_box_may_leave_the_frame_and_stays_in_sight(name: str, made) -> None:
    leaving = clip(lambda t: (100 + 4 * t, -4, 124 + 4 * t, 20), 9)
    boxes, scores = followed(made[name], leaving)
    assert overlaps(boxes[:1], leaving[:2])[0] > 0.8 and np.isfinite(boxes).all()
    assert (boxes[:, 0] <= 127).all() and (boxes[:, 3] >= 1).all()
    assert scores[-1] < scores[0]
    # Frames of nothing at all are no reason to fail.
    for _ in range(3):
        box, score = made[name].update(np.zeros((96, 128, 3), np.uint8))
        assert np.isfinite(box).all() and 0 <= score <= 1


@pytest.mark.parametrize("name", NAMES)
def test_an_object_as_large_as_the_frame_and_one_without_texture_do_no_harm(name: str, made) -> None:
    frame = drawn(0, (0, 0, 128, 96))
    made[name].begin(frame, (0, 0, 128, 96))
    assert np.abs(made[name].update(frame).box - (0, 0, 128, 96)).max() < 3
    flat = np.full((96, 128, 3), 90, np.uint8)
    made[name].begin(flat, (40, 40, 60, 60))
    box, score = made[name].update(flat)
    assert np.isfinite(box).all() and 0 <= score <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("box", [(0, 0, 1e6, 1e6), (-1e6, 40, 20, 60), (127.9, -1e6, 1e6, 0.1)])
def test_a_box_far_beyond_the_frame_is_cut_off_at_it(name: str, box: tuple[float, ...], made) -> None:
    frame = drawn(0, moving(0))
    made[name].begin(frame, box)
    x1, y1, x2, y2 = made[name].update(frame).box
    assert x2 - x1 <= 128 * 1.1 and y2 - y1 <= 96 * 1.1


def test_mistakes_are_named() -> None:
    tracker, frame = make_visual_tracker("kcf"), drawn(0, moving(0))
    with pytest.raises(UsageError, match="call begin"):
        tracker.update(frame)
    for box, message in (
        ((10, 10, 10, 20), "0 wide and 10 high"),
        ((128, 10, 140, 20), "outside of the frame of 128 x 96"),
        ((1, 2, 3), "four finite numbers"),
        ((1, 2, np.nan, 4), "four finite numbers"),
    ):
        with pytest.raises(UsageError, match=message):
            tracker.begin(frame, box)
    with pytest.raises(UsageError, match="uint8 RGB is needed"):
        tracker.begin(frame.astype(float), moving(0))
    tracker.begin(frame, moving(0))
    with pytest.raises(DataError, match="a frame of 96 x 128 pixels in a video of 128 x 96"):
        tracker.update(frame.transpose(1, 0, 2))
    with pytest.raises(UsageError, match="did you mean 'kcf'"):
        make_visual_tracker("kcff")
    with pytest.raises(UsageError, match="did you mean 'padding'"):
        make_visual_tracker("kcf", {"paddin": 2})
    for name, values in (("kcf", {"kernel_sigma": 0}), ("kcf", {"learning_rate": 2}), ("hcf", {"scales": 10**9})):
        with pytest.raises(UsageError, match=f"{next(iter(values))} .*: allowed is"):
            make_visual_tracker(name, values)
    for values in ({"scales": 32}, {"scales": 199, "scale_step": 1.2}):  # even, and too far
        with pytest.raises(UsageError, match=r"scales .*an odd number is needed, and the largest scale"):
            make_visual_tracker("hcf", values)
    with pytest.raises(UsageError, match="takes no model"):
        make_visual_tracker("kcf", model="timm:resnet18")


def test_another_package_brings_one(monkeypatch) -> None:
    @dataclass
    class Still(VisualTracker):
        def start(self, frame: np.ndarray) -> None: ...

        def step(self, frame: np.ndarray) -> float:
            return 2.0

    monkeypatch.setattr(visual_tracker.VISUAL_TRACKERS, "_registered", {})
    register("still", Still)
    tracker = make_visual_tracker("still")
    tracker.begin(drawn(0, moving(0)), moving(0))
    box, score = tracker.update(drawn(1, moving(1)))
    assert np.allclose(box, moving(0)) and score == 1
