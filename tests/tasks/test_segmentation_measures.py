"""The measures of segmentation by hand: overlap, accuracy and the match of boundaries over a whole set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.semantic_segmentation.metrics import (
    SegmentationCounts,
    boundary_counts,
    boundary_f1,
    class_table,
    confusion,
)


def test_every_number_of_a_set_by_hand():
    """Two images of three classes and a fourth that never occurs; a row is ignored."""
    first, second = [[0, 0, 1, 1], [0, 0, 1, 1], [255] * 4], [[2] * 4, [0] * 4, [0] * 4]
    truth = torch.tensor([first, second])
    said = torch.tensor([[[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 2, 2]], [[2, 2, 2, 0], [0] * 4, [0] * 4]])
    metrics = SegmentationCounts(4)
    for pair in zip(said, truth, strict=True):
        metrics.update(*(each[None] for each in pair))
    values = metrics.compute()
    confusion = [[11, 1, 0, 0], [1, 3, 0, 0], [1, 0, 3, 0], [0, 0, 0, 0]]
    assert values["confusion"].tolist() == confusion
    iou, recall, dice = [11 / 14, 3 / 5, 3 / 4], [11 / 12, 3 / 4, 3 / 4], [22 / 25, 6 / 8, 6 / 7]
    assert values["mean_iou"].item() == pytest.approx(sum(iou) / 3)
    assert values["mean_accuracy"].item() == pytest.approx(sum(recall) / 3)
    assert values["dice"].item() == pytest.approx(sum(dice) / 3)
    assert values["pixel_accuracy"].item() == pytest.approx(17 / 20)

    boundary = torch.tensor([[4, 3, 6, 3], [1, 1, 1, 1], [0, 0, 4, 0], [0, 0, 0, 0]])
    f1, has = boundary_f1(boundary)
    assert f1.tolist() == pytest.approx([2 * 0.75 * 0.5 / 1.25, 1, 0, 0]) and has.tolist() == [True, True, True, False]
    rows = class_table(values["confusion"], boundary, ["a", "b", "c", "d"])
    assert [row["class"] for row in rows] == ["a", "b", "c", "d"]
    for row, *numbers in zip(rows, [*iou, 0], [*recall, 0], [*dice, 0], f1.tolist(), [0.6, 0.2, 0.2, 0], strict=True):
        assert [row[key] for key in ("iou", "accuracy", "dice", "boundary_f1", "fraction")] == pytest.approx(numbers)
    empty = SegmentationCounts(2)
    empty.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    for name, value in empty.compute().items():
        assert (value == 0).all(), f"{name} is 0 where no pixel counts"


def test_a_boundary_is_right_within_a_fraction_of_the_diagonal_and_at_least_a_pixel():
    truth = np.zeros((30, 40), np.int64)  # a diagonal of 50
    truth[:, 20:] = 1
    for shift, tolerance in ((2, 0.04), (3, 0.04), (3, 0.06), (1, 0.0), (2, 0.0)):
        said = np.zeros_like(truth)
        said[:, 20 + shift :] = 1
        # The column of each class beside the border is as far from the other map's as the border was moved.
        found = 30 * (shift <= max(1.0, 50 * tolerance))
        assert boundary_counts(said, truth, 2, tolerance).tolist() == [[30, found, 30, found]] * 2, (shift, tolerance)
    high = boundary_counts(truth.T.copy(), truth.T.copy(), 2, 0.01)
    assert high.tolist() == [[30] * 4] * 2, "borders between rows as well"


def test_confusion_equals_torchmetrics_on_every_path():
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    generator = torch.manual_seed(0)
    for classes in (2, 11, 150, 300):
        truth = torch.randint(0, classes, (3, 40, 50), generator=generator)
        truth[:, :5] = 255 if classes <= 255 else truth[:, :5]
        said = torch.randint(0, classes, (3, 40, 50), generator=generator)
        known = truth != 255
        wanted = multiclass_confusion_matrix(said[known], truth[known], classes)
        assert torch.equal(confusion(said if classes > 255 else said.to(torch.uint8), truth, classes), wanted)


def test_known_numbers():
    truth = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 255]]])
    said = torch.tensor([[[0, 1, 1, 1], [0, 0, 2, 2]]], dtype=torch.uint8)
    metric = SegmentationCounts(3)
    metric.update(said, truth)
    got = metric.compute()
    # Class 0: 3 of 4; class 1: 2 right, 1 missed, 1 wrong; class 2: predicted once, never true.
    assert got["mean_iou"].item() == pytest.approx((3 / 4 + 2 / 4 + 0) / 3, abs=1e-5)
    assert got["pixel_accuracy"].item() == pytest.approx(5 / 7, abs=1e-5)
    assert got["mean_accuracy"].item() == pytest.approx((3 / 4 + 2 / 3) / 2, abs=1e-5)
    assert got["dice"].item() == pytest.approx((6 / 7 + 4 / 6 + 0) / 3, abs=1e-5)


def test_the_mean_is_of_the_whole_set_not_of_images():
    one, two = torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[1, 1, 1, 0]]])
    metric = SegmentationCounts(2)
    metric.update(torch.tensor([[[0, 0, 0, 1]]], dtype=torch.uint8), one)
    metric.update(torch.tensor([[[1, 1, 1, 1]]], dtype=torch.uint8), two)
    assert metric.compute()["mean_iou"].item() == pytest.approx((3 / 5 + 3 / 5) / 2)


def test_nothing_known_is_zero_not_nan():
    metric = SegmentationCounts(3)
    metric.update(torch.zeros(1, 4, 4, dtype=torch.uint8), torch.full((1, 4, 4), 255))
    assert all(torch.isfinite(value).all() for value in metric.compute().values())
    assert metric.compute()["mean_iou"] == 0


def test_boundaries_match_within_the_tolerance():
    truth = np.zeros((100, 100), dtype=np.int64)
    truth[:, 50:] = 1
    moved = np.zeros_like(truth)
    moved[:, 51:] = 1
    far = np.zeros_like(truth)
    far[:, 60:] = 1
    assert boundary_counts(truth, truth, 2, 0.01).tolist() == [[100, 100, 100, 100]] * 2
    assert boundary_counts(moved, truth, 2, 0.01).tolist() == [[100, 100, 100, 100]] * 2, "1 px of 1.4"
    assert boundary_counts(far, truth, 2, 0.01).tolist() == [[100, 0, 100, 0]] * 2
    ignored = truth.copy()
    ignored[:, 40:60] = 255
    assert boundary_counts(truth, ignored, 2, 0.01).sum() == 0, "beside an ignored pixel nothing is known"
