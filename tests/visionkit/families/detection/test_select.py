"""From dense scores to predicted boxes, each number worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from visionkit.errors import UsageError
from visionkit.families.detection.select import (
    SMALLEST_SIDE,
    Thresholds,
    check_fraction,
    select_by_class,
    select_by_sigmoid,
    select_by_softmax,
)

APART = torch.tensor([[10.0 * k, 0.0, 10.0 * k + 8, 8.0] for k in range(6)])
"""Boxes that do not touch."""


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def test_what_is_given_takes_the_place_of_the_defaults() -> None:
    usual = Thresholds()
    assert usual == (0.05, 0.5, 100, 1000)
    assert usual.given(None, None, None) == usual
    assert usual.given(0.0, 1.0, 1, 1) == (0.0, 1.0, 1, 1), "the limits themselves are allowed"
    assert usual.given(1.0, 0.0, 7) == (1.0, 0.0, 7, 1000)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ((-0.1, None, None, None), "score_threshold"),
        ((None, 1.1, None, None), "nms_threshold"),
        ((None, "half", None, None), "nms_threshold"),
        ((None, None, 0, None), "max_detections"),
        ((None, None, 2.5, None), "max_detections"),
        ((None, None, None, 0), "candidates"),
    ],
)
def test_a_value_without_sense_is_refused_by_name(given: tuple[object, ...], names: str) -> None:
    with pytest.raises(UsageError, match=names):
        Thresholds().given(*given)  # type: ignore[arg-type]
    assert check_fraction("fraction", 0) == 0 and check_fraction("fraction", 1) == 1


@pytest.mark.parametrize("centered", [False, True])
def test_each_level_gives_its_best_above_the_threshold(centered: bool) -> None:
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.1], [0.1, 0.7], [0.6, 0.1], [0.1, 0.12]])
    centerness = torch.tensor([0.9, 0.5, 0.9, 0.8, 0.1, 0.9])
    limits = Thresholds(score=0.25, nms=0.5, candidates=2)
    found = select_by_sigmoid(
        scores.logit(), APART, [4, 2], limits, centerness=centerness.logit() if centered else None
    )
    shown = (scores * centerness[:, None]).sqrt() if centered else scores
    # Of the first level two of the three that are good enough, of the second all.
    places, labels = ([0, 3, 5, 4, 5], [0, 1, 0, 0, 1]) if centered else ([0, 1, 4], [0, 1, 0])
    if centered:
        level = [(shown[a, k].item(), a, k) for a in range(4, 6) for k in range(2) if shown[a, k] > 0.25]
        first = sorted(((shown[a, k].item(), a, k) for a in range(4) for k in range(2)), reverse=True)[:2]
        want = sorted([*first, *sorted(level, reverse=True)[:2]], reverse=True)
        places, labels = [a for _, a, _ in want], [k for _, _, k in want]
    assert found.labels.tolist() == labels
    assert torch.equal(found.boxes, APART[places])
    assert found.scores.tolist() == pytest.approx([shown[a, k].item() for a, k in zip(places, labels, strict=True)])


def test_the_threshold_itself_is_not_above_it_and_its_ends_take_all_or_none() -> None:
    scores = torch.tensor([[0.5], [0.51], [0.49]])
    for limit, count in ((0.0, 3), (0.5, 1), (1.0, 0)):
        assert len(select_by_sigmoid(scores.logit(), APART[:3], [3], Thresholds(score=limit)).scores) == count
        assert len(select_by_class(scores, APART[:3], Thresholds(score=limit)).scores) == count
        assert len(select_by_softmax(scores, APART[:3, None], Thresholds(score=limit)).scores) == count
    # With centerness the geometric mean is what is compared.
    both = torch.full((1, 1), logit(0.25)), torch.full((1,), logit(0.81))
    for limit, count in ((0.44, 1), (0.46, 0)):
        assert len(select_by_sigmoid(both[0], APART[:1], [1], Thresholds(score=limit), both[1]).scores) == count


def test_softmax_with_shared_boxes_takes_the_best_of_each_class() -> None:
    probabilities = torch.tensor([[0.9, 0.05], [0.6, 0.3], [0.7, 0.2]])
    found = select_by_class(probabilities, APART[:3], Thresholds(score=0.1, candidates=2))
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3, 0.2])
    assert torch.equal(found.boxes, APART[[0, 2, 1, 2]])
    assert len(select_by_class(probabilities, APART[:3], Thresholds(score=0.1, candidates=9)).scores) == 5


def test_softmax_with_boxes_for_each_class_drops_the_thin_ones() -> None:
    boxes = APART[:4].reshape(2, 2, 4).clone()
    boxes[0, 1, 2] = boxes[0, 1, 0] + SMALLEST_SIDE / 2
    boxes[1, 0, 3] = 0.0
    probabilities = torch.tensor([[0.5, 0.4], [0.3, 0.2]])
    found = select_by_softmax(probabilities, boxes, Thresholds(score=0.1))
    assert found.labels.tolist() == [0, 1] and found.scores.tolist() == pytest.approx([0.5, 0.2])
    assert torch.equal(found.boxes, torch.stack([boxes[0, 0], boxes[1, 1]]))
    boxes[0, 1] = torch.tensor([0.0, 20.0, SMALLEST_SIDE, 30.0])
    assert len(select_by_softmax(probabilities, boxes, Thresholds(score=0.1)).scores) == 3, "as thin as allowed"


def test_overlaps_are_suppressed_within_a_class_and_the_best_are_served() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [20, 0, 30, 10]])
    probabilities = torch.tensor([[0.9, 0.0], [0.8, 0.7], [0.6, 0.0], [0.5, 0.0]])
    found = select_by_class(probabilities, boxes, Thresholds(score=0.1, nms=0.5))
    assert list(zip(found.labels.tolist(), found.scores.tolist(), strict=True)) == [
        (0, pytest.approx(0.9)),
        (1, pytest.approx(0.7)),  # another class
        (0, pytest.approx(0.6)),  # overlaps by 0.4
        (0, pytest.approx(0.5)),
    ]
    assert len(select_by_class(probabilities, boxes, Thresholds(score=0.1, nms=0.5, detections=2)).scores) == 2
    assert len(select_by_class(probabilities, boxes, Thresholds(score=0.1, nms=0.81)).scores) == 5
