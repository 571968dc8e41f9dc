"""Heatmaps: what is drawn is read back, at any place."""

import numpy as np
import pytest
import torch

from tasks.pose.offsets import draw_offsets, read_offsets
from visionkit.families.keypoints.heatmaps import draw_gaussians, read_peaks


def everywhere(size, stride):
    """(N, 2) places all over a map, its borders among them, at ever other places of their cells."""
    steps_x = torch.arange(0.0, size[1] * stride + 1e-6, 0.37 * stride / 4)
    steps_y = torch.arange(0.0, size[0] * stride + 1e-6, 1.13 * stride / 4)
    return torch.stack(torch.meshgrid(steps_x, steps_y, indexing="ij"), dim=-1).reshape(-1, 2)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("stride", [2.0, 4.0, 8.0])
def test_a_drawn_gaussian_is_read_back_within_a_tenth_of_a_pixel_anywhere(sigma, stride):
    size = (24, 18)
    places = everywhere(size, stride)
    found, height = read_peaks(draw_gaussians(places, size, stride, sigma), stride, "dark")
    assert (found - places).abs().max() < 0.1
    assert (height > 0.5).all()


def test_unbiased_reading_beats_the_older_ones():
    places = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 60 + 20
    maps = draw_gaussians(places, (25, 25), 4.0, 2.0)
    errors = {
        how: float((read_peaks(maps, 4.0, how)[0] - places).norm(dim=1).mean()) for how in ("dark", "quarter", "argmax")
    }
    assert errors["dark"] < 0.01 < errors["quarter"] < errors["argmax"]


def test_noise_moves_an_unbiased_peak_little():
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(300, 2, generator=generator) * 60 + 20
    maps = draw_gaussians(places, (25, 25), 4.0, 2.0)
    found, _ = read_peaks(maps + 0.02 * torch.randn(maps.shape, generator=generator), 4.0)
    assert float((found - places).norm(dim=1).mean()) < 0.5


@pytest.mark.parametrize("how", ["dark", "quarter", "argmax"])
def test_flat_and_tiny_maps_have_a_peak(how):
    for maps in (torch.zeros(2, 3, 8, 8), torch.full((2, 3, 1, 2), 0.5), -torch.rand(1, 1, 4, 4)):
        places, heights = read_peaks(maps, 4.0, how)
        assert torch.isfinite(places).all() and torch.isfinite(heights).all()
        assert places.shape == (*maps.shape[:2], 2)


def test_a_gaussian_stands_on_its_place():
    maps = draw_gaussians(torch.tensor([[6.0, 10.0]]), (5, 5), 4.0, 1.0)
    assert np.unravel_index(int(maps.argmax()), (5, 5)) == (2, 1) and maps.max() == 1


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("stride", [2.0, 4.0, 8.0])
def test_discs_and_offsets_are_read_back_within_a_tenth_of_a_pixel_anywhere(sigma, stride):
    places = everywhere((24, 18), stride)[::7]
    discs, offsets = draw_offsets(places, (24, 18), stride, sigma)
    assert offsets.shape == (len(places), 2, 24, 18) and set(discs.unique().tolist()) == {0.0, 1.0}
    found, height = read_offsets(discs, offsets, stride, sigma)
    assert (found - places).abs().max() < 0.1 and (height == 1).all()


def test_offsets_that_are_wrong_outside_of_the_disc_and_noisy_within_move_a_place_little():
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(300, 2, generator=generator) * 60 + 20
    discs, offsets = draw_offsets(places, (25, 25), 4.0, 2.0)
    offsets = torch.where(discs[:, None] > 0, offsets, -offsets) + 0.05 * torch.randn(
        offsets.shape, generator=generator
    )
    found, _ = read_offsets(discs + 0.05 * torch.randn(discs.shape, generator=generator), offsets, 4.0, 2.0)
    assert float((found - places).norm(dim=1).mean()) < 0.5
    untold, _ = read_offsets(discs, torch.zeros_like(offsets), 4.0, 2.0)
    assert float((untold - places).norm(dim=1).mean()) > 1, "without offsets a place is that of a cell"


def test_flat_and_tiny_discs_have_a_peak():
    for maps in (torch.zeros(2, 3, 8, 8), torch.full((2, 3, 1, 2), 0.5), -torch.rand(1, 1, 4, 4)):
        places, heights = read_offsets(maps, torch.zeros(*maps.shape[:2], 2, *maps.shape[2:]), 4.0, 2.0)
        assert torch.isfinite(places).all() and places.shape == (*maps.shape[:2], 2) and heights.shape == maps.shape[:2]
