"""Drawn pairs: the truth takes one image to the other, and augmentation keeps it true."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from datamodules.augmentation import ColorJitter, OnInput, PairAugment, RandomHorizontalFlip, SwapViews, VerticalJitter
from datamodules.pair_scenes import PairSceneData
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.inputs import last_frame
from visionkit.preprocess import Preprocessor
from visionkit.synthetic import ClipSettings
from visionkit.synthetic.pairs import draw_scene_flow
from visionkit.types import Sample

SETTINGS = ClipSettings(size=(64, 80), speed=0.03, camera_speed=0.1)
ALL = InputSpec(size=(64, 80), resize_mode="stretch")


def samples(target: Any, count: int = 3, **more: Any) -> list[Sample]:
    data = PairSceneData(target, count=count, clip=SETTINGS, **more)
    return [data.samples("train")[k] for k in range(count)]


def images(sample: Sample) -> list[np.ndarray]:
    return [last_frame(each).read(3).astype(np.float32) for each in sample.inputs.values()]


def error(one: Any, other: Any, flow: Any, seen: Any) -> float:
    """Gray levels between the first image and the second one, read where the flow leads: the mean of the best 80 %."""
    height, width = flow.shape[1:]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    warped = cv2.remap(other, (x + flow[0]).astype(np.float32), (y + flow[1]).astype(np.float32), cv2.INTER_LINEAR)
    apart = np.sort(np.abs(warped - one).mean(axis=2)[seen])
    return float(apart[: int(0.8 * len(apart))].mean())


def shown(sample: Sample, spec: InputSpec = ALL) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both images, the way between them and where it is known and seen, as a network is given them."""
    example = Preprocessor(spec)(sample)
    one, other = (each.permute(1, 2, 0).float().numpy() for each in example["inputs"].values())
    known = example["target"]
    flow = (
        known["flow"] if "flow" in known else torch.stack([-known["disparity"], torch.zeros_like(known["disparity"])])
    )
    return one, other, flow.numpy(), (known["valid"] & ~known.get("occluded", torch.zeros(()).bool())).numpy()


@pytest.mark.parametrize("target", ["flow", "disparity"])
def test_the_truth_takes_one_image_to_the_other(target: Any) -> None:
    for sample in samples(target):
        one, other, flow, seen = shown(sample)
        right, wrong = error(one, other, flow, seen), error(one, other, -flow, seen)
        assert right < 2 and right < 0.6 * wrong


@pytest.mark.parametrize("target", ["flow", "disparity"])
def test_pairs_are_the_same_for_the_same_seed_and_of_splits_apart(target: Any) -> None:
    data, again = (PairSceneData(target, count=2, eval_count=2, clip=SETTINGS) for _ in range(2))
    for split in ("train", "val"):
        for ours, theirs in zip(images(data.samples(split)[1]), images(again.samples(split)[1]), strict=True):
            assert np.array_equal(ours, theirs)
    assert not np.array_equal(images(data.samples("train")[0])[0], images(data.samples("val")[0])[0])
    other = PairSceneData(target, count=2, pair_seed=1, clip=SETTINGS)
    assert not np.array_equal(images(data.samples("train")[0])[0], images(other.samples("train")[0])[0])


def test_scene_flow_is_that_of_stereo_and_flow() -> None:
    pair = draw_scene_flow(0, 5, ClipSettings(size=(64, 80), length=2), (0.2, 0.2))
    seen = ~pair.occluded
    # The disparity that points have later is that of the second pair where they are.
    x, y = np.meshgrid(np.arange(80), np.arange(64))
    later = cv2.remap(
        pair.after.disparity, *((each + f).astype(np.float32) for each, f in zip((x, y), pair.flow, strict=True)), 0
    )
    assert np.median(np.abs(later - pair.disparity_after)[seen]) < 0.01
    reach = pair.before.camera.fx * pair.before.baseline
    change = reach / pair.disparity_after - reach / pair.before.disparity
    np.testing.assert_allclose(pair.motion[2], change, atol=1e-4)


@pytest.mark.parametrize("target", ["flow", "disparity"])
def test_augmented_pairs_keep_their_truth(target: Any) -> None:
    augment = PairAugment(scale=(0.8, 1.6), horizontal_flip=0.5, aspect_ratio=(0.9, 1.1))
    for k, sample in enumerate(samples(target)):
        for draw in range(3):
            one, other, flow, seen = shown(augment(sample, np.random.default_rng(10 * k + draw)))
            assert error(one, other, flow, seen) < 2


def test_a_flip_of_flow_turns_its_horizontal_part_around() -> None:
    sample = samples("flow", 1)[0]
    straight, flipped = shown(sample)[2], shown(RandomHorizontalFlip(1.0)(sample, np.random.default_rng(0)))[2]
    np.testing.assert_allclose(flipped[0], -straight[0][:, ::-1])
    np.testing.assert_allclose(flipped[1], straight[1][:, ::-1])


def test_swapped_views_are_a_stereo_pair_again() -> None:
    for sample in samples("disparity"):
        swapped = SwapViews(1.0)(sample, np.random.default_rng(0))
        assert list(swapped.inputs) == ["left", "right"]
        one, other, flow, _ = shown(swapped)
        assert np.array_equal(one, images(sample)[1][:, ::-1])
        # Half of what is hidden is not known of the exchanged pair, so a part of the pixels differs.
        assert np.median(np.abs(_warped(other, flow) - one)) < 4
    known: Any = dict(sample.target)
    del known["right_disparity"]
    alone = sample.changed(target=known)
    assert SwapViews(1.0)(alone, np.random.default_rng(0)) is alone


def _warped(other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(flow.shape[2]), np.arange(flow.shape[1]))
    return cv2.remap(other, (x + flow[0]).astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)


def test_one_input_is_changed_alone() -> None:
    sample = samples("disparity", 1)[0]
    plain = Preprocessor(ALL)(sample)["inputs"]
    changed = OnInput("right", [ColorJitter(brightness=0.5)])(sample, np.random.default_rng(0))
    seen = Preprocessor(ALL)(changed)["inputs"]
    assert torch.equal(seen["left"], plain["left"]) and not torch.equal(seen["right"], plain["right"])
    with pytest.raises(UsageError, match=r"augment.input 'rigth': the samples have left, right; did you mean .right."):
        OnInput("rigth", [])(sample, np.random.default_rng(0))
    with pytest.raises(UsageError, match="whatever moves an image has to move both"):
        OnInput("right", [RandomHorizontalFlip(1.0)])(sample, np.random.default_rng(0))


def test_vertical_jitter_moves_the_right_image_by_as_much_as_was_asked() -> None:
    sample = samples("disparity", 1)[0]
    plain = Preprocessor(ALL)(sample)["inputs"]
    seen = Preprocessor(ALL)(VerticalJitter(4, 0, p=1.0)(sample, np.random.default_rng(3)))["inputs"]
    assert torch.equal(seen["left"], plain["left"])
    down = 4 * np.random.default_rng(3).random(2)[1] * 2 - 4
    moved = cv2.phaseCorrelate(*(each["right"].float().mean(0).numpy()[8:-8, 8:-8] for each in (plain, seen)))[0]
    assert abs(moved[0]) < 0.3 and abs(moved[1] - down) < 0.5
    with pytest.raises(UsageError, match="VerticalJitter is for stereo"):
        VerticalJitter()(samples("flow", 1)[0], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "flwo"}, "data.target 'flwo': allowed are disparity, flow; did you mean .flow."),
        ({"count": 0}, "count 0 and eval_count 50 must be at least 1"),
        ({"gap": (3, 2)}, r"data.gap \[3, 2\]"),
        ({"baseline": (0, 0.1)}, r"data.baseline \[0, 0.1\]"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PairSceneData(**options)
