"""Wrong pixels have one kind each: drawn cases of a single kind, and what mending it gains."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.families.dense.error_parts import ErrorParts, by_range, edge_mask
from visionkit.families.dense.label_analysis import LabelAnalysis
from visionkit.families.dense.label_errors import KINDS, label_errors

SIZE = (240, 320)  # its diagonal is 400, so boundaries may be off by 3


def square(labels, top, left, side, label):
    labels[top : top + side, left : left + side] = label
    return labels


def truth():
    """A large square of class 1 and a small one of class 2 on class 0."""
    return square(square(np.zeros(SIZE, np.uint8), 40, 40, 100, 1), 60, 200, 20, 2)


SINGLE = {
    "boundary": lambda: square(square(truth(), 38, 38, 104, 1), 60, 200, 20, 2),
    "small": lambda: square(truth(), 60, 200, 20, 0),
    "confusion": lambda: square(truth(), 40, 40, 100, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_a_single_kind_are_attributed_to_it_entirely(kind):
    predicted, known = SINGLE[kind](), truth()
    kinds = label_errors(predicted, known, 4)
    assert ((kinds > 0) == (predicted != known)).all()
    assert set(np.unique(kinds[kinds > 0])) == {KINDS.index(kind) + 1}
    analysis = LabelAnalysis(("a", "b", "c", "d"))
    analysis.add_labels("one", predicted, known)
    rows = {row["error"]: row for row in analysis.tables()["error breakdown"]}
    assert rows[kind]["pixels"] == (predicted != known).sum()
    assert analysis.rows[0]["mean_iou"] + rows[kind]["d mean IoU"] == pytest.approx(1)
    assert all(rows[other]["d mean IoU"] == 0 for other in KINDS if other != kind)


def test_a_blob_far_from_boundaries_is_confused_and_ignored_pixels_have_no_kind():
    predicted, known = truth(), truth()
    square(predicted, 180, 200, 5, 1)
    known[180:182, 200:205] = 255
    kinds = label_errors(predicted, known, 4)
    assert (kinds == KINDS.index("confusion") + 1).sum() == 15
    assert (kinds > 0).sum() == 15
    assert not label_errors(known, known, 4).any()


def test_groups_are_measured_from_their_own_pixels():
    analysis = LabelAnalysis(("a", "b"))
    half = np.zeros((4, 4), np.uint8)
    half[:2] = 1
    analysis.add_labels("right", half, half)
    analysis.add_labels("all a", np.zeros((4, 4), np.uint8), half)
    assert analysis.values(np.array([0]))["mean_iou"] == 1
    assert analysis.values(np.array([1]))["mean_iou"] == pytest.approx(0.25)
    # a: 16 of 24 pixels of the union, b: 8 of 16.
    assert analysis.values(np.array([0, 1]))["mean_iou"] == pytest.approx((16 / 24 + 8 / 16) / 2)
    assert analysis.badness(analysis.rows[1]) > analysis.badness(analysis.rows[0])


def test_errors_of_one_part_are_all_of_the_squared_error():
    depth = np.full(SIZE, 1.0)
    depth[:, 160:] = 5.0
    known = np.ones(SIZE, dtype=bool)
    edge = edge_mask(depth, known, 0.1, relative=True)
    assert edge[:, 157:163].all() and not edge[:, :156].any() and not edge[:, 164:].any()
    for wrong, where, expected in (
        (edge, "place", {"edges": 1.0, "flat": 0.0}),
        (~edge, "place", {"edges": 0.0, "flat": 1.0}),
        (depth == 5.0, "range", {"0 to 2 m": 0.0, "from 2 m": 1.0}),
    ):
        parts, error = ErrorParts(), np.where(wrong, 0.5, 0.0)[known]
        masks = {"edges": edge[known], "flat": ~edge[known]}
        parts.add(masks if where == "place" else by_range(depth[known], [0, 2], "m"), error, {"abs": np.abs(error)})
        assert {row[where]: row["of squared error"] for row in parts.rows(where)} == expected
    assert parts.rows("range")[1]["abs"] == 0.5 and parts.rows("range")[0]["of all pixels"] == 0.5


def test_two_neighbors_that_are_not_both_known_are_no_edge():
    depth, known = np.ones((20, 20)), np.ones((20, 20), dtype=bool)
    depth[:, 10:], known[:, 10] = 5.0, False
    assert not edge_mask(depth, known, 0.1, relative=True).any()
    flow = np.zeros((2, 20, 20))
    flow[:, :, 10:] = 3.0  # the difference is longer than 3 in length alone
    assert edge_mask(flow, np.ones((20, 20), bool), 4.0, relative=False).any()
    assert not edge_mask(flow, np.ones((20, 20), bool), 4.3, relative=False).any()
