"""Boxes and masks stay readable, from one object to hundreds."""

from __future__ import annotations

import time

import numpy as np
import pytest

from visionkit.drawing.colors import palette
from visionkit.masks import encode_masks
from visionkit.predictions import Detections, Instances

NAMES = tuple(f"class {k}" for k in range(80))


def crowd(number: int = 200, size=(960, 1280)) -> Detections:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.9, (number, 2)) * size[::-1]
    sides = np.exp(rng.normal(3.8, 0.6, (number, 2)))
    boxes = np.concatenate([corner, np.minimum(corner + sides, size[::-1])], axis=1)
    return Detections(NAMES, size, boxes, rng.uniform(0.3, 1, number), rng.integers(0, 80, number), 0.3)


def test_two_hundred_objects_of_eighty_classes_stay_readable():
    found = crowd()
    image = np.full((960, 1280, 3), 120, np.uint8)
    before = time.perf_counter()
    drawn = found.draw(image)
    assert time.perf_counter() - before < 5
    assert (image == 120).all()
    colors = palette(80)
    shown = 0
    for box, label in zip(found.boxes.round().astype(int), found.labels, strict=True):
        x1, y1, x2, y2 = np.clip(box, 0, [1280, 960, 1280, 960])
        border = np.concatenate([drawn[y1, x1:x2], drawn[y2 - 1, x1:x2], drawn[y1:y2, x1], drawn[y1:y2, x2 - 1]])
        shown += (border == colors[label]).all(axis=1).mean() > 0.4
    assert shown > 150, "most borders are seen in their class's color"
    changed = (drawn != 120).any(axis=2).mean()
    assert changed < 0.45, "names do not bury the image"
    assert len({tuple(color) for color in colors}) == 80


def test_what_is_not_above_the_threshold_is_not_drawn():
    image = np.full((300, 300, 3), 50, np.uint8)
    unsure = Detections(("a",), (300, 300), [[10, 10, 100, 100]], [0.4], [0])
    assert np.array_equal(unsure.draw(image), image)
    sure = Detections(("a",), (300, 300), [[10, 10, 100, 100]], [0.6], [0])
    assert (sure.draw(image)[50, 10] == palette(1)[0]).all()


def test_masks_tint_their_pixels_and_only_those():
    mask = np.zeros((1, 300, 300), bool)
    mask[0, 100:200, 120:220] = True
    found = Instances(("a", "b"), (300, 300), [[120, 100, 220, 200]], [0.9], [1], masks=tuple(encode_masks(mask)))
    drawn = found.draw(np.full((300, 300, 3), 50, np.uint8)).astype(int)
    color = palette(2)[1].astype(int)
    assert np.abs(drawn[150, 170] - (50 * 0.58 + color * 0.42)).max() <= 1
    assert (drawn[150, 120] == color).all() and (drawn[230:] == 50).all() and (drawn[:, 230:] == 50).all()


def test_objects_of_one_class_are_distinguished():
    mask = np.zeros((2, 300, 300), bool)
    mask[0, 20:120, 20:120] = mask[1, 150:250, 150:250] = True
    boxes = [[20, 20, 120, 120], [150, 150, 250, 250]]
    found = Instances(("nucleus",), (300, 300), boxes, [0.9, 0.8], [0, 0], masks=tuple(encode_masks(mask)))
    drawn = found.draw(np.zeros((300, 300, 3), np.uint8))
    assert (drawn[70, 70] != drawn[200, 200]).any()


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (20, 1500), (3000, 4000)])
@pytest.mark.parametrize("number", [0, 1, 80])
def test_every_size_is_drawn_upon(size, number):
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 1, (number, 2, 2)) * size[::-1]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    masks = encode_masks(np.zeros((number, *size), bool)) if max(size) < 3000 else []
    labels = rng.integers(0, 80, number)
    if masks:
        found: Detections = Instances(NAMES, size, boxes, np.full(number, 0.9), labels, masks=tuple(masks))
    else:
        found = Detections(NAMES, size, boxes, np.full(number, 0.9), labels)
    drawn = found.draw(np.full((*size, 3), 60, np.uint8))
    assert drawn.dtype == np.uint8 and drawn.shape[0] % size[0] == 0 and drawn.shape[1] % size[1] == 0
    assert (drawn != 60).any() == (number > 0)
