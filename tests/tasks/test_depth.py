"""Depth: known numbers, losses, alignment, outputs, geometry, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tasks.depth import DepthTask
from tasks.depth.network import Bins, Bounded
from tests.ranks import on_two_ranks
from visionkit.errors import UsageError
from visionkit.families.dense.depth_measures import DepthMeasures
from visionkit.geometry import InputSpec
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


# ---------------------------------------------------------------------- network


@pytest.mark.parametrize("prediction", [Bounded(0.5, 8.0), Bins(0.5, 8.0, 32)], ids=["sigmoid", "bins"])
def test_outputs_stay_within_their_bounds(prediction: nn.Module):
    raw = 50 * torch.randn(2, prediction.channels, 9, 9, generator=torch.Generator().manual_seed(0))
    depth = prediction(raw)
    assert depth.shape == (2, 9, 9) and depth.dtype == torch.float32
    assert float(depth.min()) >= 0.5 - 1e-5 and float(depth.max()) <= 8.0 + 1e-4
    assert float(depth.min()) < 1.0 and float(depth.max()) > 5.0, "all of the range can be stated"


@pytest.mark.parametrize(
    "architecture", ["unet", "fpn", pytest.param("upernet", marks=pytest.mark.slow), "segformer", "pspnet", "fcn"]
)
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
