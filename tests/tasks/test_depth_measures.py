"""What counts in the measures of depth: the limits of what is measured, masks, alignment, and each measure by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tasks.depth.metrics import LEAST, NAMES, DepthMeasures, build_metrics, crop_mask, measures
from visionkit.geometry import Geometry, InputSpec
from visionkit.types import View


def of(values: list[float], truth: list[float], mask: list[bool] | None = None, **options) -> dict[str, float]:
    metric = DepthMeasures(**options)
    known = None if mask is None else torch.tensor(mask)[None, None]
    metric.update(torch.tensor(values)[None, None], torch.tensor(truth)[None, None], known)
    return {name: float(value) for name, value in metric.compute().items()}


def test_each_measure_by_hand():
    """Predictions of 2 and 4 m where 1 and 8 m are right."""
    found = measures(torch.tensor([2.0, 4.0], dtype=torch.float64), torch.tensor([1.0, 8.0], dtype=torch.float64))
    log2 = math.log(2)
    assert dict(zip(NAMES, found.tolist(), strict=True)) == {
        "abs_rel": pytest.approx((1 + 0.5) / 2),
        "sq_rel": pytest.approx((1 + 2) / 2),
        "rmse": pytest.approx(math.sqrt((1 + 16) / 2)),
        "rmse_log": pytest.approx(log2),
        "log10": pytest.approx(math.log10(2)),
        "silog": pytest.approx(100 * log2),
        "delta1": 0,
        "delta2": 0,
        "delta3": 0,
    }
    three = torch.tensor([1.2499, 1.5624, 1.953, 1.954], dtype=torch.float64)
    assert measures(three, torch.ones(4, dtype=torch.float64))[-3:].tolist() == [0.25, 0.5, 0.75]
    assert measures(torch.tensor([1.25]), torch.tensor([1.0]))[-3:].tolist() == [0, 1, 1], "within, not at"


def test_what_is_measured_is_above_a_millimeter_and_up_to_the_cap():
    assert LEAST == 1e-3
    assert of([1.0], [LEAST])["unmeasured"] == 1 and of([1.0], [0.0011])["unmeasured"] == 0
    at, beyond = of([5.0], [10.0]), of([5.0], [10.1])
    assert (at["unmeasured"], at["beyond"], at["abs_rel"]) == (0, 0, 0.5)
    assert (beyond["unmeasured"], beyond["beyond"], beyond["abs_rel"]) == (1, 1, 0)
    assert of([5.0], [10.1], cap=80.0)["beyond"] == 0


def test_no_prediction_counts_as_nearer_than_a_millimeter_or_farther_than_the_cap():
    assert of([-3.0], [2.0])["abs_rel"] == pytest.approx((2 - LEAST) / 2)
    assert of([50.0], [8.0])["abs_rel"] == 0.25
    assert of([50.0], [8.0], cap=80.0)["abs_rel"] == pytest.approx(42 / 8)


def test_only_masked_pixels_count_and_the_fraction_beyond_is_of_all():
    found = of([1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 20.0, 0.0], [False, True, True, True])
    assert found["abs_rel"] == 0.5 and found["beyond"] == pytest.approx(1 / 3)
    assert of([1.0], [1.0], [False])["unmeasured"] == 1


def test_images_add_up_over_batches():
    metric = DepthMeasures()
    for depth, truth in ((2.0, 1.0), (1.0, 1.0), (1.0, 0.0), (1.0, 30.0)):
        metric.update(torch.full((1, 2, 2), depth), torch.full((1, 2, 2), truth))
    found = metric.compute()
    assert float(found["abs_rel"]) == 0.5 and float(found["unmeasured"]) == 2
    assert float(found["beyond"]) == pytest.approx(1 / 3)


def test_relative_predictions_are_aligned_as_nearness_and_no_farther_than_the_cap():
    options = {"alignment": "least_squares", "relative": True}
    truth = [1.0, 2.0, 4.0]
    assert of([3.0 / depth - 1 for depth in truth], truth, **options)["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert of([3.0 / depth - 1 for depth in truth], truth, alignment="least_squares")["abs_rel"] > 0.1
    # The line through 1, 1/2 and 1/4 that ends below zero nearness: farther than anything.
    found = of([1.0, 0.9, 0.0, 0.0, -1.0], [1.0, 1.0, 10.0, 10.0, 10.0], **options)
    assert math.isfinite(found["abs_rel"]) and found["rmse"] < 10


def test_scale_and_shift_are_those_of_depth_where_depth_is_predicted():
    assert of([0.0, 1.0, 3.0], [1.0, 3.0, 7.0], alignment="least_squares")["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert of([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], alignment="median")["abs_rel"] == 0
    assert of([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])["abs_rel"] == 0.5


def test_the_metrics_of_a_split_have_the_task_s_protocol():
    metric = build_metrics(80.0, "median", True)["measures"]
    assert (metric.cap, metric.alignment, metric.relative) == (80.0, "median", True)
    plain = DepthMeasures()
    assert (plain.cap, plain.alignment, plain.relative) == (10.0, "none", False)


def test_the_center_of_a_pixel_states_whether_it_lies_in_the_crop():
    geometry = Geometry.plan(InputSpec(size=(48, 64), resize_mode="stretch"), (480, 640))
    rows, columns = crop_mask([geometry], (48, 64), "eigen")[0].nonzero().T
    # File rows 45 to 471 and columns 41 to 601, a cell of ten pixels by its middle.
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (4, 46, 4, 59)
    flipped = Geometry.plan(InputSpec(size=(48, 64), resize_mode="stretch"), (480, 640), View((0, 0, 640, 480), True))
    both = crop_mask([geometry, flipped], (48, 64), "eigen")
    assert both.shape == (2, 48, 64) and torch.equal(both[1], both[0].flip(-1))
    assert crop_mask([geometry], (48, 64), "none").all()
