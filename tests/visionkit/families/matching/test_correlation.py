"""Correlation of features: by displacement, and of all pairs."""

from __future__ import annotations

import pytest
import torch

from visionkit.errors import UsageError
from visionkit.families.matching.correlation import CorrelationPyramid, local_correlation
from visionkit.families.matching.warp import pixel_grid, sample


def features(seed: int, height: int = 9, width: int = 11, channels: int = 5) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


def test_displacements_of_a_window_by_hand() -> None:
    first, second = features(0), features(1)
    found = local_correlation(first, second, 5, 2)  # displacements -4, -2, 0, 2, 4
    assert found.shape == (2, 25, 9, 11)
    expected = torch.zeros_like(found)
    for number, (down, right) in enumerate((y, x) for y in (-4, -2, 0, 2, 4) for x in (-4, -2, 0, 2, 4)):
        for row in range(9):
            for column in range(11):
                if 0 <= row + down < 9 and 0 <= column + right < 11:
                    pair = first[:, :, row, column] * second[:, :, row + down, column + right]
                    expected[:, number, row, column] = pair.mean(dim=1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_moved_image_correlates_most_at_its_displacement() -> None:
    first = torch.nn.functional.normalize(features(0, 8, 8, 16), dim=1)
    costs = local_correlation(first, first.roll((1, -2), dims=(2, 3)), 3, 1)
    assert (costs[:, :, :-1, 2:].argmax(dim=1) == 4 * 7 + 1).all()  # one row down, two columns to the left


@pytest.mark.parametrize("mode", ["full", "lookup"])
def test_a_pyramid_by_hand(mode: str) -> None:
    """Level 1 is compared with the mean of four pixels, at half the place."""
    first, second = features(0, 8, 8), features(1, 8, 8)
    moved = pixel_grid(first).expand(2, 2, 8, 8) + 0.25
    found = CorrelationPyramid(first, second, 2, 1, mode)(moved)
    assert found.shape == (2, 2 * 9, 8, 8)
    for level, map_ in enumerate((second, torch.nn.functional.avg_pool2d(second, 2))):
        for number, (right, down) in enumerate((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)):
            x, y = (moved / 2**level).unbind(1)
            expected = (first * sample(map_, x + right, y + down)).sum(dim=1) / 5**0.5
            assert torch.allclose(found[:, 9 * level + number], expected, atol=1e-5)


def test_both_modes_give_equal_values_and_gradients() -> None:
    places = 10 * torch.rand(2, 2, 9, 11, generator=torch.Generator().manual_seed(2)) - 1
    given = {}
    for mode in ("full", "lookup"):
        first, second = features(0).requires_grad_(), features(1).requires_grad_()
        found = CorrelationPyramid(first, second, 3, 2, mode)(places)
        found.square().sum().backward()
        given[mode] = found.detach(), first.grad, second.grad
    for one, two in zip(given["full"], given["lookup"], strict=True):
        assert torch.allclose(one, two, atol=1e-4)
    with pytest.raises(UsageError, match="did you mean 'lookup'"):
        CorrelationPyramid(features(0), features(1), 1, 1, "lokup")
