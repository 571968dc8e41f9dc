"""The losses of depth: published formulas, what is not measured, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.depth.loss import (
    LOSSES,
    DepthLoss,
    GradientMatching,
    ScaleInvariantLog,
    ScaleShiftInvariant,
    matched_gradients,
)
from visionkit.errors import UsageError


def batch(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 16, 20, generator=generator) * 4 + 1
    known = torch.rand(2, 16, 20, generator=generator) > 0.3
    return truth, torch.where(known, truth, 0.0), known


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_nothing_where_all_is_right_and_grows_with_the_error(name):
    truth, measured_, known = batch()
    right = 1 / truth if name == "scale_shift_invariant" else truth
    loss = LOSSES[name]()
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    values = [float(loss(right * (1 + amount * noise), measured_, known)) for amount in (0.0, 0.1, 0.3)]
    assert values[0] == pytest.approx(0, abs=1e-4)
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_what_was_not_measured_is_nothing_to_a_loss(name):
    truth, measured_, known = batch()
    depth = (truth * 1.3).requires_grad_()
    LOSSES[name]()(depth, measured_, known).backward()
    assert float(depth.grad[~known].abs().max()) == 0
    nothing = torch.zeros_like(known)
    depth = (truth * 1.3).requires_grad_()
    loss = LOSSES[name]()(depth, torch.zeros_like(truth), nothing)
    loss.backward()
    assert float(loss.detach()) == 0 and torch.isfinite(depth.grad).all()


def test_silog_is_eigens_formula():
    truth, measured_, known = batch()
    depth = truth * (1 + 0.2 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(3)))
    each = []
    for k in range(2):
        g = np.log(depth[k][known[k]].double().numpy()) - np.log(truth[k][known[k]].double().numpy())
        each.append(np.sqrt((g**2).mean() - 0.85 * g.mean() ** 2))
    assert float(LOSSES["silog"]()(depth, measured_, known)) == pytest.approx(np.mean(each), abs=1e-3)
    assert float(LOSSES["silog"](variance_focus=1.0)(2 * truth, measured_, known)) == pytest.approx(0, abs=1e-3)


def test_berhu_bends_at_a_fifth_of_the_largest_error():
    truth = torch.full((1, 1, 3), 5.0)
    depth = torch.tensor([[[5.1, 5.2, 6.0]]])  # bend at 0.2
    expected = (0.1 + 0.2 + (1 + 0.04) / 0.4) / 3
    assert float(LOSSES["berhu"]()(depth, truth, truth > 0)) == pytest.approx(expected, abs=1e-5)


def test_berhu_bends_by_measured_errors_alone():
    truth = torch.tensor([[[5.0, 5.0, 0.0]]])
    depth = torch.tensor([[[5.01, 5.1, 9.0]]])  # bend at 0.02
    expected = (0.01 + (0.01 + 0.0004) / 0.04) / 2
    assert float(LOSSES["berhu"]()(depth, truth, truth > 0)) == pytest.approx(expected, abs=1e-5)


def test_a_single_pair_of_neighbors_counts_whole():
    rest = torch.zeros(1, 4, 4)
    rest[0, 0, 1] = 0.7
    known = torch.zeros(1, 4, 4, dtype=torch.bool)
    known[0, 0, :2] = True
    assert float(matched_gradients(rest, known, 1)) == pytest.approx(0.7)


def test_the_invariant_loss_does_not_see_scale_and_shift():
    truth, measured_, known = batch()
    loss = LOSSES["scale_shift_invariant"]()
    assert float(loss(5 / truth + 3, measured_, known)) == pytest.approx(0, abs=1e-4)
    assert float(loss(truth, measured_, known)) > 0.1, "depth is no inverse depth"


def test_gradients_match_edges_and_not_a_common_factor():
    truth = torch.ones(1, 8, 8)
    truth[..., 4:] = 3.0
    loss, known = LOSSES["gradient"](), torch.ones(1, 8, 8, dtype=torch.bool)
    assert float(loss(2 * truth, truth, known)) == pytest.approx(0, abs=1e-5)
    assert float(loss(torch.full_like(truth, 2.0), truth, known)) > 0.1


def test_an_image_with_one_measured_pixel_counts():
    depth, truth = torch.full((2, 2, 2), 2.0), torch.ones(2, 2, 2)
    known = torch.zeros(2, 2, 2, dtype=torch.bool)
    known[0, 0, 0] = True
    # One log error of log 2: the spread is (1 - focus) of its square.
    found = ScaleInvariantLog(variance_focus=0.5)(depth, truth, known)
    assert float(found) == pytest.approx(math.sqrt(0.5) * math.log(2), abs=1e-2)


def test_the_invariant_loss_measures_by_the_spread_and_not_by_the_distance():
    torch.manual_seed(0)
    nearness, goal, known = torch.rand(1, 6, 6), 0.5 + torch.rand(1, 6, 6), torch.ones(1, 6, 6, dtype=torch.bool)
    loss = ScaleShiftInvariant()
    assert float(loss(nearness, 1 / goal, known)) == pytest.approx(
        float(loss(nearness, 1 / (goal + 3), known)), rel=1e-3
    )


def test_gradients_need_a_scale():
    assert GradientMatching(1).scales == 1
    with pytest.raises(UsageError, match="scales 0"):
        GradientMatching(0)


def test_losses_are_refused_with_a_line():
    for terms, relative, line in (
        ({"silgo": 1.0}, False, "did you mean 'silog'"),
        ({"scale_shift_invariant": 1.0}, False, "not for metric depth"),
        ({"silog": 1.0}, True, "not for relative depth"),
        ({"silog": 0.0}, False, "above 0"),
        ({}, False, "at least one"),
    ):
        with pytest.raises(UsageError, match=line):
            DepthLoss(terms, relative=relative)
    with pytest.raises(UsageError, match="loss_options silog"):
        DepthLoss({"silog": 1.0}, {"silog": {"focus": 1}})
