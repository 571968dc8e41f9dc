"""Stereo: cost volumes, the disparity that they state, losses and metrics, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.stereo import StereoTask
from tasks.stereo.loss import smooth_l1
from tasks.stereo.metrics import DisparityMeasures
from tests.contracts.cases import build
from visionkit.errors import UsageError
from visionkit.families.matching.cost_volume import concatenation_volume, correlation_volume, shifted, soft_argmin
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor


def test_psmnet_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = StereoTask.architectures["psmnet"]().build(None, InputSpec())
    assert sum(each.numel() for each in network.parameters()) == 5_224_768


def test_volumes_hold_the_right_image_moved_to_the_left_one() -> None:
    left, right = torch.randn(2, 3, 4, 7), torch.randn(2, 3, 4, 7)
    volume = concatenation_volume(left, right, 9)
    assert volume.shape == (2, 6, 9, 4, 7)
    for shift in range(9):
        seen = max(0, 7 - shift)
        assert torch.equal(volume[:, :3, shift, :, 7 - seen :], left[..., 7 - seen :])
        assert torch.equal(volume[:, 3:, shift, :, 7 - seen :], right[..., :seen])
        assert not volume[:, :, shift, :, : 7 - seen].any()
    scores = correlation_volume(left, right, 3)
    assert torch.allclose(scores[:, 2, :, 2:], (left[..., 2:] * right[..., :-2]).sum(1))
    assert [float(each[0, 0, 0, 0]) for each in shifted(right, 2)] == [float(right[0, 0, 0, 0]), 0.0]


def test_soft_argmin_states_the_disparity_of_a_sure_bin_and_the_mean_between_two() -> None:
    scores = torch.full((1, 4, 2, 3), -1e4)
    scores[0, 2] = 0.0
    assert torch.allclose(soft_argmin(scores, 4, (8, 12)), torch.full((1, 8, 12), 8.0))
    # Bins 1 and 2 score 0, the others far below: 4, 5, 6, 7 and 8 px have equal parts.
    scores[0, 1] = 0.0
    assert torch.allclose(soft_argmin(scores, 4, (2, 3)), torch.full((1, 2, 3), 6.0))


def test_the_metrics_are_those_worked_out_by_hand() -> None:
    truth = torch.tensor([[10.0, 100.0, 100.0, 40.0, 5.0, 0.0]])
    ours = torch.tensor([[10.5, 104.0, 94.0, 42.5, 1.0, 9.0]])
    # Errors .5, 4 (4 %), 6 (6 %), 2.5, 4 (80 %); the last one was not measured.
    metric = DisparityMeasures()
    metric.update(ours, truth, truth > 0)
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == pytest.approx({"epe": 3.4, "bad1": 0.8, "bad2": 0.8, "bad3": 0.6, "d1": 0.4}, abs=1e-6)

    metric.reset()
    occluded = torch.tensor([[False, False, True, True, False, True]])
    for column in range(6):  # batches add up
        part = slice(column, column + 1)
        metric.update(ours[:, part], truth[:, part], truth[:, part] > 0, occluded[:, part])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found["epe"] == pytest.approx(3.4, abs=1e-6)
    assert found["epe_visible"] == pytest.approx(8.5 / 3, abs=1e-6)
    assert found["epe_occluded"] == pytest.approx(4.25, abs=1e-6)
    assert (found["bad2_occluded"], found["d1_occluded"]) == (1.0, 0.5)
    assert found["d1_visible"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_loss_weighs_the_stages_and_leaves_out_what_is_not_known() -> None:
    truth = {"disparity": torch.tensor([[[4.0, 0.0, 20.0, 6.0]]]), "valid": torch.tensor([[[True, True, True, False]]])}
    stages = [torch.full((1, 1, 4), value) for value in (6.0, 4.5, 4.0)]
    # Of the first pixel alone: 1.5 * .5 + .125 * .7 + 0; the third is beyond the limit.
    assert float(smooth_l1(stages, truth, 16)["smooth_l1"]) == pytest.approx(0.8375, abs=1e-6)
    assert float(smooth_l1(stages[1:2], truth, 16)["smooth_l1"]) == pytest.approx(0.125, abs=1e-6)
    nothing = {"disparity": torch.zeros(1, 1, 4)}
    assert float(smooth_l1(stages, nothing, 16)["smooth_l1"]) == 0.0


def test_a_map_is_in_pixels_of_the_file_whatever_the_input_is() -> None:
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    pair = {"left": image, "right": image}
    task = build("stereo", input=InputSpec((64, 64), "stretch")).eval()
    with torch.no_grad():
        example = Predictor(task).prepare(pair)
        raw = task(*(each[None] for each in example["inputs"].values())).disparity[0]
    found = Predictor(task)(pair)
    assert found.size == (60, 90)
    assert float(found.values.mean()) == pytest.approx(float(raw.mean()) * 90 / 64, rel=0.02)


def test_what_cannot_be_built_is_refused() -> None:
    for arguments, words in (
        ({"psmnet_small": {"max_disparity": 40}}, "max_disparity 40: allowed are multiples of 16"),
        ({"input": {"size": [60, 64], "resize_mode": "stretch"}}, "multiples of 16"),
        ({"input": {"resize_mode": "crop"}}, "set native, stretch or letterbox"),
        ({"architecture": "timm_cost_volume", "timm_cost_volume": {"backbone": "test_vit"}}, "built for one size"),
    ):
        with pytest.raises(UsageError, match=words):
            StereoTask(**arguments)
    fixed = InputSpec((160, 160), "stretch")
    task = StereoTask("timm_cost_volume", timm_cost_volume={"backbone": "test_vit", "max_disparity": 16}, input=fixed)
    assert task(*task.example_inputs(1)).disparity.shape == (1, 160, 160)
