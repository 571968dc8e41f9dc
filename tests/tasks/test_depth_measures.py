"""The measures of depth: known numbers, the limits of what is measured, masks, alignment, and published crops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.depth.metrics import CROPS, build_metrics, crop_mask
from visionkit.families.dense.depth_alignment import least_squares
from visionkit.families.dense.depth_measures import LEAST, NAMES, DepthMeasures, measures
from visionkit.geometry import Geometry, InputSpec
from visionkit.types import View


def measured(values, truth, **options) -> dict[str, float]:
    metric = DepthMeasures(**options)
    metric.update(torch.as_tensor(values)[None], torch.as_tensor(truth)[None])
    return {name: float(value) for name, value in metric.compute().items()}


def test_the_known_numbers_of_the_protocol():
    truth = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    got = measured(1.1 * truth, truth)
    known = {"abs_rel": 0.1, "rmse": 0.460977, "log10": 0.0413927, "delta1": 1.0, "rmse_log": 0.0953102, "silog": 0.0}
    for name, value in known.items():
        assert got[name] == pytest.approx(value, abs=1e-5), name
    assert got["sq_rel"] == pytest.approx(0.01 * 15 / 4, abs=1e-5)
    assert all(math.isfinite(value) for value in got.values())


def test_silog_of_a_spread_is_the_deviation_of_the_log():
    truth, factors = torch.ones(4), torch.tensor([1.0, 1.1, 1.2, 1.5])
    logs = np.log(factors.numpy().astype(np.float64))
    assert measured(factors[None], truth[None])["silog"] == pytest.approx(100 * logs.std(), abs=1e-4)


def test_deltas_count_factors_both_ways():
    got = measured(torch.tensor([[1.2, 1.0 / 1.3, 1.6, 2.5]]), torch.ones(1, 4))
    assert (got["delta1"], got["delta2"], got["delta3"]) == (0.25, 0.5, 0.75)


def test_images_count_alike_whatever_is_measured_of_them():
    metric = DepthMeasures()
    truth = torch.zeros(2, 2, 2)
    truth[0] = 2.0
    truth[1, 0, 0] = 2.0
    depth = torch.stack([torch.full((2, 2), 2.0), torch.full((2, 2), 3.0)])
    metric.update(depth, truth)
    assert float(metric.compute()["abs_rel"]) == pytest.approx(0.25)


def test_what_is_not_measured_or_too_far_does_not_count_and_nothing_is_nan():
    truth = torch.tensor([[0.0, 5e-4, 2.0, 11.0]])
    got = measured(torch.tensor([[9.0, 9.0, 2.0, 9.0]]), truth, cap=10.0)
    assert got["abs_rel"] == 0.0 and got["unmeasured"] == 0
    nothing = measured(torch.ones(1, 4), torch.zeros(1, 4))
    assert nothing["unmeasured"] == 1 and nothing["abs_rel"] == 0.0
    assert all(math.isfinite(value) for value in nothing.values())


@pytest.mark.parametrize("alignment", ["median", "least_squares"])
def test_alignment_undoes_what_it_is_named_for(alignment):
    truth = torch.rand(6, 7, generator=torch.Generator().manual_seed(0)) * 4 + 1
    shift = 0.3 if alignment == "least_squares" else 0.0
    got = measured(0.25 * truth + shift, truth, alignment=alignment)
    assert got["abs_rel"] == pytest.approx(0, abs=1e-5) and got["delta1"] == 1
    assert measured(0.25 * truth + shift, truth)["delta1"] < 1


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_ones():
    # ratio of medians 2.5 / 1.5; with the lower ones it would be 2 / 1
    got = measured(torch.tensor([[1.0, 1.0, 2.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0]]), alignment="median")
    scaled = np.array([1, 1, 2, 2]) * 2.5 / 1.5
    assert got["abs_rel"] == pytest.approx(np.mean(np.abs(scaled - [1, 2, 3, 4]) / [1, 2, 3, 4]), abs=1e-6)


def test_relative_depth_is_aligned_as_inverse_depth():
    truth = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) * 4 + 1
    assert measured(3.0 / truth + 0.7, truth, alignment="least_squares", relative=True)["abs_rel"] < 1e-5


def test_least_squares_agrees_with_numpy():
    rng = np.random.default_rng(0)
    x, y, known = rng.random((2, 5, 6)), rng.random((2, 5, 6)), rng.random((2, 5, 6)) > 0.4
    scale, shift = least_squares(*(torch.from_numpy(each) for each in (x, y, known)))
    for k in range(2):
        expected = np.polyfit(x[k][known[k]], y[k][known[k]], 1)
        np.testing.assert_allclose([scale[k], shift[k]], expected, rtol=1e-9)


@pytest.mark.parametrize(("crop", "top", "bottom"), [("eigen_kitti", 124, 342), ("garg", 153, 371)])
def test_the_crops_of_kitti_are_those_of_its_evaluation(crop, top, bottom):
    """Rows and columns that monodepth's evaluation code (Godard et al., 2017) cuts out of 375 x 1242 pixels."""
    whole = Geometry.plan(InputSpec(size=(375, 1242), resize_mode="native"), (375, 1242))
    expected = torch.zeros(375, 1242, dtype=torch.bool)
    expected[top:bottom, 44:1197] = True
    assert torch.equal(crop_mask([whole], (375, 1242), crop)[0], expected)


def test_the_eigen_crop_is_that_of_the_paper_at_file_size():
    whole = Geometry.plan(InputSpec(size=(480, 640), resize_mode="stretch"), (480, 640))
    expected = torch.zeros(480, 640, dtype=torch.bool)
    expected[45:471, 41:601] = True
    assert torch.equal(crop_mask([whole], (480, 640), "eigen")[0], expected)


@pytest.mark.parametrize("crop", sorted(CROPS))
def test_a_crop_is_a_place_in_the_file_whatever_the_input(crop):
    half = Geometry.plan(InputSpec(size=(96, 96), resize_mode="letterbox"), (480, 640))
    mask = crop_mask([half], (96, 96), crop)[0]
    top, left, bottom, right = CROPS[crop]
    expected = (bottom - top) * (right - left) * 72 * 96
    assert int(mask.sum()) == pytest.approx(expected, rel=0.08)
    assert not mask[:12].any() and not mask[-12:].any(), "borders are no part of the file"


def test_the_fractions_of_pixels_within_a_factor_by_hand():
    truth = torch.ones(4, dtype=torch.float64)
    depth = torch.tensor([1.0, 1.2, 1.5, 2.2], dtype=torch.float64)
    fractions = dict(zip(NAMES, measures(depth, truth).tolist(), strict=True))
    assert [fractions[f"delta{power}"] for power in (1, 2, 3)] == [0.5, 0.75, 0.75]
    assert dict(zip(NAMES, measures(truth * 1.9, truth).tolist(), strict=True))["delta3"] == 1
    assert fractions["abs_rel"] == pytest.approx(1.9 / 4) and fractions["sq_rel"] == pytest.approx(1.73 / 4)


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
