"""Depth: known numbers, losses, alignment, outputs, geometry, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from tasks.depth import DepthTask
from tasks.depth.alignment import least_squares
from tasks.depth.loss import (
    LOSSES,
    DepthLoss,
    GradientMatching,
    ScaleInvariantLog,
    ScaleShiftInvariant,
    matched_gradients,
)
from tasks.depth.metrics import CROPS, NAMES, DepthMeasures, crop_mask, measures
from tasks.depth.network import Bins, Bounded
from tests.ranks import on_two_ranks
from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.loading import SampleDataset, collate
from visionkit.predictor import Predictor
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View

FITS = ("stretch", "letterbox", "pad", "crop", "native")


def tiny(**arguments) -> DepthTask:
    given = {
        "input": InputSpec(size=(64, 64), resize_mode="stretch"),
        "unet": {"channels": [16, 16, 8, 8, 8]},
    }
    return DepthTask("test_resnet", **{**given, **arguments})


def measured(values, truth, **options) -> dict[str, float]:
    metric = DepthMeasures(**options)
    metric.update(torch.as_tensor(values)[None], torch.as_tensor(truth)[None])
    return {name: float(value) for name, value in metric.compute().items()}


# ---------------------------------------------------------------------- measures


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


def _five_images():
    generator = torch.Generator().manual_seed(2)
    truth = torch.rand(5, 8, 9, generator=generator) * 9
    truth[3] = 0  # nothing measured
    return truth * (1 + 0.3 * torch.rand(5, 8, 9, generator=generator)) + 0.1, truth


def _measured_by(rank):
    depth, truth = _five_images()
    metric = DepthMeasures()
    metric.update(depth[rank::2], truth[rank::2])
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_ranks_state_what_one_states():
    alone = DepthMeasures()
    alone.update(*_five_images())
    wanted = {name: float(value) for name, value in alone.compute().items()}
    assert wanted["unmeasured"] == 1
    for prediction in on_two_ranks(_measured_by):
        assert prediction == pytest.approx(wanted, rel=1e-6)


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


# ---------------------------------------------------------------------- losses


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


def test_the_fractions_of_pixels_within_a_factor_by_hand():
    truth = torch.ones(4, dtype=torch.float64)
    depth = torch.tensor([1.0, 1.2, 1.5, 2.2], dtype=torch.float64)
    fractions = dict(zip(NAMES, measures(depth, truth).tolist(), strict=True))
    assert [fractions[f"delta{power}"] for power in (1, 2, 3)] == [0.5, 0.75, 0.75]
    assert dict(zip(NAMES, measures(truth * 1.9, truth).tolist(), strict=True))["delta3"] == 1
    assert fractions["abs_rel"] == pytest.approx(1.9 / 4) and fractions["sq_rel"] == pytest.approx(1.73 / 4)


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


# ---------------------------------------------------------------------- network


@pytest.mark.parametrize("prediction", [Bounded(0.5, 8.0), Bins(0.5, 8.0, 32)], ids=["sigmoid", "bins"])
def test_outputs_stay_within_their_bounds(prediction: nn.Module):
    raw = 50 * torch.randn(2, prediction.channels, 9, 9, generator=torch.Generator().manual_seed(0))
    depth = prediction(raw)
    assert depth.shape == (2, 9, 9) and depth.dtype == torch.float32
    assert float(depth.min()) >= 0.5 - 1e-5 and float(depth.max()) <= 8.0 + 1e-4
    assert float(depth.min()) < 1.0 and float(depth.max()) > 5.0, "all of the range can be stated"


@pytest.mark.parametrize("architecture", ["unet", "fpn", "upernet", "segformer", "pspnet", "fcn"])
def test_no_decoder_begins_or_ends_where_the_sigmoid_has_no_slope(architecture: str):
    torch.manual_seed(0)
    spec = InputSpec(size=(64, 64), resize_mode="stretch")
    task = DepthTask("test_resnet", architecture=architecture, input=spec).train()
    image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    truth = torch.linspace(1.0, 4.0, 64).expand(4, 64, 64)
    raw: list[torch.Tensor] = []
    task.network.prediction.register_forward_pre_hook(lambda module, inputs: raw.append(inputs[0].detach()))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    first = 0.0
    for step in range(20):
        loss = sum(task.losses(task(image), {"depth": truth}).values())
        first = first if step else float(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(raw[0].abs().max()) < 4 and float((raw[-1].abs() < 8).float().mean()) > 0.99
    assert float(loss.detach()) < 0.8 * first


@pytest.mark.parametrize(
    "arguments", [{}, {"output": "bins", "bins": 8}, {"relative": True}], ids=["sigmoid", "bins", "relative"]
)
def test_every_kind_of_output_trains_and_is_served(arguments):
    task = tiny(**arguments)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    truth = torch.rand(2, 64, 64) * 4 + 1
    terms = task.train().losses(task(image), {"depth": truth})
    sum(terms.values()).backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert any(p.grad.abs().sum() > 0 for p in task.network.backbone.parameters())
    prediction = Predictor(task.eval())(np.zeros((50, 41, 3), np.uint8))
    assert (
        prediction.size == (50, 41) and prediction.metric != bool(arguments.get("relative")) and prediction.known.all()
    )


def test_all_unmeasured_is_reported_and_gives_no_nan(caplog):
    task = tiny().eval()
    terms = task.losses(task(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)), {"depth": torch.zeros(1, 64, 64)})
    assert all(float(value) == 0 for value in terms.values())
    task.metrics.update(torch.ones(1, 64, 64), torch.zeros(1, 64, 64), None)
    with caplog.at_level("WARNING"):
        task.tabulate(task.metrics.compute())
    assert "1 image(s) have no measured depth" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"min_depth": 5.0, "max_depth": 2.0}, "near first"),
        ({"output": "bin"}, "did you mean 'bins'"),
        ({"eval_crop": "eigne"}, "did you mean 'eigen'"),
        ({"alignment": "mean"}, "allowed are none, median, least_squares"),
        ({"relative": True, "alignment": "median"}, "use least_squares"),
        ({"bins": 1}, "at least 2"),
        ({"architecture": "unett"}, "did you mean 'unet'"),
    ],
)
def test_what_cannot_be_is_refused_when_built(arguments, line):
    with pytest.raises(UsageError, match=line):
        tiny(**arguments)


def test_the_protocol_names_range_crop_and_alignment():
    said = tiny(eval_crop="eigen", alignment="median", max_depth=10.0).protocol
    assert "0.001 to 10 m" in said and "crop eigen" in said and "ratio of medians" in said and "per-image" in said


# ---------------------------------------------------------------------- geometry


class Says(nn.Module):
    """Gives a number for each pixel: the red channel in centimeters."""

    def forward(self, image):
        from tasks.depth.network import DepthOutputs

        return DepthOutputs(image[:, 0].float() / 100)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(47, 83), (83, 47), (1, 1), (200, 31)])
def test_maps_come_back_at_the_file_s_size_and_place(fit, size):
    task = tiny().eval()
    spec = InputSpec(size=(64, 64), resize_mode=fit, crop_fraction=1.0)
    ramp = np.zeros((*size, 3), np.uint8)
    ramp[..., 0] = np.linspace(20, 240, size[1])[None].astype(np.uint8)
    image, geometry = Preprocessor(spec).prepare(ramp)
    prediction = task.restore(Says()(image[None]).depth, [geometry])[0]
    assert prediction.size == size
    there = prediction.known
    assert there.all() if fit != "crop" else there.any()
    # Resampled twice, so up to some pixels of the ramp off at borders; meters are what they were.
    off = np.abs(prediction.values - ramp[..., 0] / 100.0)[there]
    assert float(np.median(off)) < 0.06


def test_truth_and_image_move_together_and_zero_is_never_mixed():
    rng = np.random.default_rng(0)
    depth = rng.choice(np.array([0.0, 0.5, 1.0, 2.0], dtype=np.float32), size=(60, 80))
    image = np.repeat((depth * 100).astype(np.uint8)[..., None], 3, axis=2)
    view = View((10, 6, 70, 51), flip=True)
    for spec in (InputSpec(size=(45, 60), resize_mode="stretch"), InputSpec(size=(40, 100), resize_mode="letterbox")):
        example = Preprocessor(spec)(Sample.of(ImageSource(image), {"depth": depth}, "x", view))
        truth = example["target"]["depth"]
        assert set(np.unique(truth.numpy())) <= {0.0, 0.5, 1.0, 2.0}
        if spec.resize_mode == "stretch":  # no resize at all: the same pixels
            np.testing.assert_array_equal(example["inputs"]["image"][0].numpy(), (truth.numpy() * 100).astype(np.uint8))
    data = SampleDataset(
        [Sample.of(ImageSource(image), {"depth": depth}, "x")],
        Preprocessor(InputSpec(size=(60, 80), resize_mode="stretch")),
    )
    np.testing.assert_array_equal(collate([data[0]])["target"]["depth"][0].numpy(), depth)


@pytest.mark.parametrize(("factor", "said"), [(5.0, "is beyond model.max_depth"), (0.001, "delta1 is 0"), (1.0, "")])
def test_what_a_wrong_unit_looks_like_is_a_warning(caplog, factor, said):
    task = DepthTask("test_resnet", input=InputSpec(size=(32, 32), resize_mode="stretch"), max_depth=10.0)
    truth = torch.full((1, 8, 8), 4.0) * factor
    task.metrics.update(torch.full((1, 8, 8), 4.0), truth)
    for _ in range(2):
        task.tabulate(task.metrics.compute())
    messages = [record.message for record in caplog.records if "units_per_meter" in record.message]
    assert len(messages) == bool(said) and all(said in message for message in messages)
