"""Truth stays on its pixels through zoom, flip and quarter turns, and every key loses the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from datamodules.augmentation import ObjectAugment
from datamodules.augmentation.geometric import visible
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.masks import MaskSet, encode_masks
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View

BOXES = [[10, 20, 40, 50], [60, 30, 90, 44], [100, 70, 116, 90]]


def sample(as_set: bool) -> Sample:
    image = np.zeros((96, 128, 3), np.uint8)
    masks = np.zeros((3, 96, 128), bool)
    for k, (x1, y1, x2, y2) in enumerate(BOXES):
        image[y1:y2, x1:x2, k] = 255
        masks[k, y1:y2, x1:x2] = True
    target: dict[str, Any] = {
        "boxes": np.array(BOXES, float),
        "labels": np.arange(3),
        "masks": MaskSet((96, 128), encode_masks(masks)) if as_set else masks,
        "area": np.arange(3.0),
        "iscrowd": np.zeros(3, int),
    }
    return Sample.of(ImageSource(image), target, "p")  # type: ignore[arg-type]


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("as_set", [False, True])
def test_truth_stays_on_its_pixels(turn, as_set):
    augment = ObjectAugment(
        scale=(0.6, 2.5), aspect_ratio=(1 / 1.3, 1.3), translate=0.2, quarter_turns=turn, min_visibility=0.4
    )
    preprocess = Preprocessor(InputSpec(size=(96, 128), resize_mode="letterbox", fill=0))
    seen, flips, turns = set(), set(), set()
    for seed in range(40):
        changed = augment(sample(as_set), np.random.default_rng(seed))
        assert changed.view is not None
        flips.add(changed.view.flip)
        turns.add(changed.view.rotation)
        example = preprocess(changed)
        target = example["target"]
        rows = {len(target[key]) for key in ("boxes", "labels", "masks", "area", "iscrowd")}
        assert len(rows) == 1 and "file_boxes" not in target
        seen.add(rows.pop())
        for box, label, mask, area in zip(*(target[k] for k in ("boxes", "labels", "masks", "area")), strict=True):
            assert int(area) == int(label)
            lit = example["inputs"]["image"][label] > 127
            assert (lit & mask).sum() / (lit | mask).sum() > 0.8, changed.view
            rows_lit, columns_lit = lit.any(1).nonzero(), lit.any(0).nonzero()
            tight = torch.tensor([columns_lit[0], rows_lit[0], columns_lit[-1] + 1, rows_lit[-1] + 1])
            assert (box - tight).abs().max() <= 1.5, changed.view
    assert flips == {False, True} and turns == ({0.0, 90.0, 180.0, 270.0} if turn else {0.0})
    assert seen > {1, 3}, "now and then an object is lost, never all of them"
    assert 0 not in seen


def test_a_part_of_fixed_size():
    augment = ObjectAugment(scale=(1, 1), aspect_ratio=(1, 1), crop_size=(48, 64), quarter_turns=True)
    preprocess = Preprocessor(InputSpec(resize_mode="native", divisor=16))
    sizes = {
        preprocess(augment(sample(True), np.random.default_rng(seed)))["inputs"]["image"].shape for seed in range(12)
    }
    assert sizes == {(3, 48, 64)}


def test_what_is_visible_of_a_box():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 20], [30, 30, 40, 40]], float)
    assert visible(boxes, View((0, 0, 10, 10))).tolist() == pytest.approx([1, 0.25, 0])
    assert visible(boxes, View((-5, 0, 15, 10), rotation=90.0)).tolist() == pytest.approx([1, 0.375, 0])


def test_images_without_objects_and_colors():
    blank = Sample.of(
        ImageSource(np.full((64, 64, 3), 100, np.uint8)), {"boxes": np.zeros((0, 4)), "labels": np.zeros(0)}
    )
    augment = ObjectAugment(brightness=0.5, contrast=0.2, saturation=0.3, hue=0.1)
    example = Preprocessor(InputSpec(size=(64, 64)))(augment(blank, np.random.default_rng(1)))
    assert example["target"]["boxes"].shape == (0, 4) and int(example["inputs"]["image"].float().mean()) != 100


def test_the_same_numbers_give_the_same_sample():
    augment = ObjectAugment(quarter_turns=True, hue=0.2)
    first, second = (augment(sample(True), np.random.default_rng(4)) for _ in range(2))
    assert first.view == second.view and first.photometric == second.photometric


@pytest.mark.parametrize(
    "given",
    [{"scale": (2.0, 1.0)}, {"crop_size": (0, 9)}, {"aspect_ratio": (0, 0.9)}, {"horizontal_flip": 1.5}, {"hue": 0.6}],
)
def test_values_that_make_no_sense_are_refused(given):
    with pytest.raises(UsageError, match=f"augment.{next(iter(given))}"):
        ObjectAugment(**given)


def test_other_targets_are_refused():
    with pytest.raises(UsageError, match="cannot move high_res"):
        ObjectAugment()(Sample.of(sample(True).image, {"high_res": np.zeros((3, 9, 9))}), np.random.default_rng(0))
