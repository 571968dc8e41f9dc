"""Detections and instances as values: order, json both ways, truth beside them, bad ones refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from visionkit.masks import MaskSet, encode_masks
from visionkit.predictions import Detections, Instances, Prediction

NAMES = ("cat", "dog")
BOXES = [[1.5, 2, 6, 7], [0, 0, 3, 3], [2, 2, 8, 8]]


def bitmaps() -> np.ndarray:
    masks = np.zeros((3, 10, 9), bool)
    for mask, box in zip(masks, BOXES, strict=True):
        x1, y1, x2, y2 = (int(value) for value in box)
        mask[y1:y2, x1:x2] = True
    return masks


def instances(scores=(0.2, 0.9, 0.5)) -> Instances:
    return Instances(NAMES, (10, 9), np.array(BOXES), scores, [0, 1, 0], masks=tuple(encode_masks(bitmaps())))


def test_the_highest_scoring_comes_first_and_everything_moves_along():
    found = instances()
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.2]) and found.labels.tolist() == [1, 0, 0]
    assert found.boxes[0].tolist() == [0, 0, 3, 3] and found.names == ["dog", "cat", "cat"]
    assert np.array_equal(np.asarray(MaskSet((10, 9), found.masks)), bitmaps()[[1, 2, 0]])
    assert len(found.above()) == 2 and len(found.above(0.1)) == 3
    assert found.chosen(np.array([2])).masks == (found.masks[2],)
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0] = 0


@pytest.mark.parametrize("kind", [Detections, Instances])
@pytest.mark.parametrize("number", [0, 3])
def test_json_both_ways(kind, number):
    found = instances().chosen(np.arange(number))
    if kind is Detections:
        found = Detections(NAMES, (10, 9), found.boxes.astype(np.float32), found.scores, found.labels, 0.25)
    record = json.loads(json.dumps(found.to_json()))
    back = Prediction.from_json(record)
    assert type(back) is kind and back.to_json() == record
    assert len(record["objects"]) == number and record["kind"] == kind.kind
    if kind is Detections:
        assert back == found and back != instances()
    else:
        assert back.masks == found.masks


def test_truth_and_row():
    found = instances()
    target = {"boxes": np.array(BOXES[:2], np.float32), "labels": np.array([0, 1]), "masks": bitmaps()[:2]}
    truth = found.truth(target)
    assert isinstance(truth, Instances) and np.array_equal(np.asarray(MaskSet((10, 9), truth.masks)), bitmaps()[:2])
    held = MaskSet((10, 9), encode_masks(bitmaps()[:2]))
    assert found.truth({**target, "masks": held}) == truth
    row = found.row(truth)
    assert row["truth"] == "1 cat, 1 dog" and row["prediction"] == "1 dog, 1 cat" and row["objects"] == 2
    assert found.truth({"labels": 3}) is None
    nothing = found.chosen(np.zeros(3, bool))
    assert nothing.row()["prediction"] == "nothing" and nothing.row()["best score"] == 0.0
    plain = Detections(NAMES, (10, 9), BOXES, [0.2, 0.9, 0.5], [0, 1, 0])
    assert isinstance(plain.truth(target), Detections) and not isinstance(plain.truth(target), Instances)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NAMES, (9, 9), BOXES, [0.5], [0]), "not one each"),
        ((NAMES, (9, 9), [[0, 0, np.nan, 1]], [0.5], [0]), "finite"),
        ((NAMES, (9, 9), BOXES[:1], [0.5], [2]), "labels run from 2"),
    ],
)
def test_values_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Detections(*arguments)


def test_masks_must_fit():
    with pytest.raises(ValueError, match="as many masks"):
        Instances(NAMES, (10, 9), BOXES, [0.2, 0.9, 0.5], [0, 1, 0])
    with pytest.raises(ValueError, match="for an image of size"):
        Instances(NAMES, (9, 9), BOXES, [0.2, 0.9, 0.5], [0, 1, 0], masks=tuple(encode_masks(bitmaps())))
