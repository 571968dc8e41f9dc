"""Optical flow: geometry, losses, measures, the task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.optical_flow import OpticalFlowTask
from tasks.optical_flow.loss import end_point_error, known_pixels, multi_scale_loss, sequence_loss
from tasks.optical_flow.metrics import FlowMeasures, error_vectors
from tasks.optical_flow.postprocess import DecodedFlow, to_predictions
from tests.ranks import on_two_ranks
from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec
from visionkit.predictor import Predictor
from visionkit.types import View

RESIZES = ("stretch", "letterbox", "crop", "pad", "native")


def small(architecture: str = "flownet_s", **more: object) -> OpticalFlowTask:
    return OpticalFlowTask(architecture, **{"flownet_s": {"width": 0.0625}, **more})


# ---------------------------------------------------------------------- geometry


@pytest.mark.parametrize("mode", RESIZES)
@pytest.mark.parametrize(
    "view",
    [None, View((0, 0, 90, 70), flip=True), View((10, 5, 74, 61)), View((10, 5, 74, 61), flip=True, rotation=20.0)],
    ids=["whole", "flip", "crop", "turned"],
)
def test_a_field_comes_back_from_the_input(mode: str, view: View | None) -> None:
    """A motion that is the same everywhere: what lies between pixels is not at stake."""
    geometry = Geometry.plan(InputSpec((64, 96), mode, divisor=32, fill=None), (70, 90), view)
    field = torch.tensor([3.5, -2.25])[:, None, None].expand(2, 70, 90)
    decoded = DecodedFlow(geometry.apply_vectors(field)[None])
    back = to_predictions(decoded, [geometry])[0]
    shown = geometry.invert_map(geometry.apply_map(torch.ones(1, 70, 90), fill=0.0))[0] > 0.999
    assert back.size == (70, 90) and shown.float().mean() > 0.3
    error = np.hypot(*(back.values - field.numpy()))[shown.numpy() & back.known]
    assert error.max() < 1e-3


def test_pixels_come_back_where_nothing_is_resampled() -> None:
    field = torch.from_numpy(np.random.default_rng(0).normal(0, 9, (2, 70, 90)).astype(np.float32))
    for view in (None, View((0, 0, 90, 70), flip=True), View((10, 5, 74, 61), flip=True)):
        geometry = Geometry.plan(InputSpec((64, 64), "native", divisor=64, fill=None), (70, 90), view)
        back = to_predictions(DecodedFlow(geometry.apply_vectors(field)[None]), [geometry])[0]
        left, top, right, bottom = (0, 0, 90, 70) if view is None else map(int, view.box)
        rows, columns = slice(top, bottom), slice(left, right)
        assert np.abs(back.values - field.numpy())[:, rows, columns].max() < 1e-3
        assert back.known[rows, columns].all()


# ---------------------------------------------------------------------- losses


def test_losses_by_hand() -> None:
    truth = torch.zeros(1, 2, 2, 2)
    truth[0, 0] = torch.tensor([[3.0, 500.0], [6.0, 0.0]])
    valid = torch.tensor([[[True, True], [True, False]]])
    known = known_pixels(truth, valid, 400.0)
    assert known.tolist() == [[[True, False], [True, False]]]
    estimate = torch.zeros(1, 2, 2, 2)
    estimate[0, 1, 0, 0] = 4.0
    assert end_point_error(estimate, truth, known).item() == pytest.approx((5 + 6) / 2)
    assert end_point_error(estimate, truth, known & False).item() == 0
    coarse = torch.tensor([1.5, 4.0]).view(1, 2, 1, 1)  # the mean of the known is (4.5, 0)
    terms = multi_scale_loss([estimate, coarse], truth, known)
    assert {name: round(value.item(), 5) for name, value in terms.items()} == {"epe_1": 5.5, "epe_2": 0.5 * 5}
    found = sequence_loss([torch.zeros_like(truth), estimate], truth, known, 0.8)["sequence"]
    assert found.item() == pytest.approx((7 + 6) / 2 + 0.8 * (3 + 6) / 2)
    estimate = truth.clone().requires_grad_()
    end_point_error(estimate, truth, known).backward()
    assert torch.isfinite(estimate.grad).all(), "an error of 0 has a gradient"


# ---------------------------------------------------------------------- measures


def test_measures_by_hand() -> None:
    metric = FlowMeasures()
    error, length = torch.tensor([[[0.0, 2.0, 4.0, 4.0]]]), torch.tensor([[[10.0, 10.0, 10.0, 100.0]]])
    valid = torch.ones(1, 1, 4, dtype=torch.bool)
    metric.update(error, length, valid)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx({"epe": 2.5, "fl_all": 0.25, "bad1": 0.75, "bad3": 0.5, "bad5": 0.0}, abs=1e-6)
    # Pooled over pixels, not over images: one pixel with an error of 12.
    metric.update(
        torch.full((1, 1, 2), 12.0),
        torch.full((1, 1, 2), 1.0),
        torch.tensor([[[True, False]]]),
        torch.tensor([[[True, True]]]),
    )
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found["epe"] == pytest.approx(22 / 5, abs=1e-6) and found["bad5"] == pytest.approx(1 / 5, abs=1e-6)
    assert found["epe_occluded"] == pytest.approx(12.0, abs=1e-6) and found["fl_all_occluded"] == 1
    assert "epe_visible" not in found, "nothing is known to be visible"
    assert all(np.isfinite(float(value)) for value in FlowMeasures().compute().values())


def _measured(rank: int, ranks: int = 2) -> dict[str, float]:
    rng, metric = torch.Generator().manual_seed(0), FlowMeasures()
    for number in range(5):  # of sizes of their own
        error, length = torch.rand(2, 1, 3, 4 + number, generator=rng) * torch.tensor([8, 50]).view(2, 1, 1, 1)
        if number % ranks == rank:
            metric.update(error, length, error < 7, error > 4)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_ranks_pool_their_pixels() -> None:
    wanted = _measured(0, ranks=1)
    assert len(wanted) == 15
    for found in on_two_ranks(_measured):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_errors_are_in_file_pixels() -> None:
    """Twice as wide and half as high: an error of (2, 1) in the input is (1, 2) in the file."""
    geometry = Geometry.plan(InputSpec((64, 128), "stretch"), (128, 64))
    truth = torch.zeros(1, 2, 64, 128)
    truth[:, 0] = 8
    values = truth + torch.tensor([2.0, 1.0]).view(1, 2, 1, 1)
    error, length = error_vectors(values, truth, [geometry])
    assert error[0, 5, 5].item() == pytest.approx(5**0.5, abs=1e-6) and length[0, 5, 5].item() == pytest.approx(4)


# ---------------------------------------------------------------------- the task


def test_parameters_are_those_of_the_published_networks() -> None:
    for name, count in (("flownet_s", 38_676_506), ("flownet_c", 39_175_298)):
        with torch.device("meta"):
            network = OpticalFlowTask.architectures.choose(name, {}).build(None, 3)
        assert sum(each.numel() for each in network.parameters()) == count, name


def test_consistency_is_an_option_of_the_call() -> None:
    predictor = Predictor(small().eval())
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert predictor.options == ("consistency",)
    whole, checked = (predictor({"first": image, "second": image}, consistency=each) for each in (False, True))
    assert whole.known.all() and np.array_equal(checked.values[:, checked.known], whole.values[:, checked.known])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": {"size": (64, 100)}}, "multiples of 64, not size"),
        ({"input": {"divisor": 32}}, "with divisor 32"),
        ({"input": {"tied": False}}, "tied False"),
        ({"max_flow": 0}, "max_flow 0"),
        ({"flownet_s": {"width": 0}}, "width 0: allowed"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small(**arguments)


def test_images_of_two_sizes_are_refused() -> None:
    from visionkit.errors import DataError

    first, second = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 80, 3), np.uint8)
    with pytest.raises(DataError, match="need one size"):
        Predictor(small().eval())({"first": first, "second": second})


def test_the_protocol_is_stated() -> None:
    assert "file size" in small().protocol and "above 3 px and 5 %" in small().protocol
    stretched = small(input=InputSpec((64, 128), "stretch"))
    assert "stretch to 64x128" in stretched.protocol
