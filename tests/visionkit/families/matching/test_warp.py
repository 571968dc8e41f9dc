"""Warping by a flow, and where flow and flow back agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.flow_files import read_flow
from tests.real_data import real_data
from visionkit.families.matching.warp import consistent, sample, warp
from visionkit.images import ImageSource


def test_values_between_pixels_and_beside_the_image() -> None:
    values = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    x, y = torch.tensor([[[0.0, 0.5, 1.0, 2.0, -0.5]]]), torch.tensor([[[0.0, 0.5, 1.0, 0.0, 0.0]]])
    assert sample(values, x, y).flatten().tolist() == [0.0, 6.0, 12.0, 0.0, 0.0]
    one = sample(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    assert one.item() == 1


def test_warping_a_moved_image_gives_the_first_one() -> None:
    first = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    second = first.roll((1, 2), dims=(2, 3))
    flow = torch.zeros(1, 2, 8, 9)
    flow[:, 0], flow[:, 1] = 2, 1
    assert torch.allclose(warp(second, flow)[..., :-1, :-2], first[..., :-1, :-2], atol=1e-6)


def test_consistency_is_sundarams_criterion() -> None:
    forward = torch.zeros(1, 2, 4, 40)
    forward[:, 0] = 10
    backward = -forward.clone()
    assert consistent(forward, backward)[0, :, :30].all() and not consistent(forward, backward)[0, :, 30:].any()
    # |f + b|^2 = d^2 against 0.01 (100 + (10 - d)^2) + 0.5: the border is at d = 1.4913...
    for difference, agrees in ((1.48, True), (1.5, False)):
        back = backward.clone()
        back[:, 0] += difference
        assert bool(consistent(forward, back)[0, 0, 0]) is agrees


def test_the_truth_of_middlebury_warps_one_image_to_the_other() -> None:
    folder = real_data("optical_flow/middlebury_pair")
    first, second = (
        torch.from_numpy(ImageSource(folder / name).read().astype(np.float32)).permute(2, 0, 1)[None]
        for name in ("frame10.png", "frame11.png")
    )
    flow = torch.from_numpy(read_flow(folder / "flow10.flo")[0])[None]
    inside = warp(torch.ones(1, 1, 480, 640), flow)[0, 0] > 0.999
    assert (first - second).abs().mean().item() == pytest.approx(11.7, abs=0.05)
    assert (first - warp(second, flow)).abs()[0][:, inside].mean().item() == pytest.approx(2.37, abs=0.05)
