"""Holes are filled from the known pixels around them, the same in a tile as in the whole image."""

from __future__ import annotations

import torch

from visionkit.families.restoration.hole_filling import fill_holes


def test_known_pixels_stay_and_a_hole_in_one_color_takes_it() -> None:
    image = torch.rand(1, 3, 32, 40)
    image[..., 8:24, 8:24] = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
    mask = torch.zeros(1, 1, 32, 40)
    mask[..., 12:20, 11:21] = 1
    given = torch.where(mask > 0, torch.rand_like(image), image)
    filled = fill_holes(given, mask)
    assert torch.equal(filled[..., :8, :], image[..., :8, :])
    torch.testing.assert_close(filled[..., 12:20, 11:21], image[..., 12:20, 11:21], atol=0.2, rtol=0)
    assert (filled[..., 14:18, 14:18] - image[..., 14:18, 14:18]).abs().mean() < 0.05


def test_a_ramp_goes_on_through_a_hole_better_than_gray() -> None:
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 1, 64, 64)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 24:40, 24:40] = 1
    error = (fill_holes(ramp * (1 - mask), mask) - ramp).abs()[mask > 0].mean()
    assert error < 0.04 < (0.5 - ramp).abs()[mask > 0].mean()


def test_an_image_without_a_known_pixel_is_gray_and_everything_stays_finite() -> None:
    assert torch.equal(fill_holes(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)), torch.full((1, 3, 16, 16), 0.5))
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    fill_holes(image, torch.ones(1, 1, 16, 16)).sum().backward()
    assert image.grad is not None and torch.isfinite(image.grad).all()
