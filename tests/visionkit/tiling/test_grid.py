"""Tiles that cover, weights that add up to one, and a tiled prediction that is the whole image's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from visionkit.errors import UsageError
from visionkit.tiling import Grid, Merger, receptive_field


def random_grid(seed: int) -> tuple[Grid, int, int]:
    g = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high + 1, (), generator=g))  # noqa: E731
    align = (1, 1, 4, 8)[seed % 4]
    tile, overlap = align * draw(4, 9), align * draw(0, 3)
    size = (draw(1, 150), draw(1, 150))
    return Grid(size, tile, overlap, halo=draw(0, overlap // 2), align=align), overlap, align


@pytest.mark.parametrize("seed", range(80))
def test_tiles_cover_the_image_and_weights_add_up_to_one(seed):
    grid, overlap, align = random_grid(seed)
    total = torch.zeros(grid.size)
    tiles = list(grid)
    assert len(tiles) == len(grid) == grid.shape[0] * grid.shape[1]
    for tile in tiles:
        assert tile.rows.start % align == 0 and tile.columns.start % align == 0
        weights = grid.row_weights[tile.place[0]][:, None] * grid.column_weights[tile.place[1]]
        assert (weights >= 0).all()
        total[tile.rows, tile.columns] += weights
    assert torch.allclose(total, torch.ones(grid.size), atol=1e-6)
    rows = [tile.rows for tile in tiles if tile.place[1] == 0]
    assert rows[0].start == 0 and rows[-1].stop == grid.size[0]
    assert all(a.stop - b.start >= overlap for a, b in pairwise(rows))


@pytest.mark.parametrize("seed", range(40))
def test_merging_the_pieces_of_an_image_gives_the_image(seed):
    grid, _, _ = random_grid(seed)
    image = torch.rand(3, *grid.size)
    merger = Merger(grid)
    for tile in grid:
        merger.add(tile, image[:, tile.rows, tile.columns])
    assert torch.allclose(merger.result(), image, atol=1e-6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.GELU(), nn.Conv2d(8, 4, 3, padding=2, dilation=2)).eval()


@pytest.mark.parametrize("size", [(97, 131), (40, 200), (33, 20)])
@torch.inference_mode()
def test_a_finite_network_tiled_is_the_network_on_the_whole(size):
    net, image = network(), torch.rand(3, *size)
    radius = 4
    whole = net(image[None])[0]
    for overlap in (2 * radius, 2 * radius + 5, 4 * radius):
        grid = Grid(size, 32, overlap, halo=radius)
        merger = Merger(grid)
        for tile in grid:
            merger.add(tile, net(image[None, :, tile.rows, tile.columns])[0])
        # At the image's own border tiles end where the image does, so padding is the same too.
        assert torch.allclose(merger.result(), whole, atol=1e-5)
    seam = Merger(Grid(size, 24, 2, halo=0))
    for tile in seam.grid:
        seam.add(tile, net(image[None, :, tile.rows, tile.columns])[0])
    if len(seam.grid) > 1:
        assert not torch.allclose(seam.result(), whole, atol=1e-3), "without a halo a seam shows: the test can fail"


@torch.inference_mode()
def test_a_strided_network_requires_aligned_tiles():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 3, padding=1), nn.Upsample(scale_factor=4)).eval()
    image = torch.rand(3, 104, 76)
    merger = Merger(Grid((104, 76), 32, 16, halo=8, align=4))
    for tile in merger.grid:
        merger.add(tile, net(image[None, :, tile.rows, tile.columns])[0])
    assert torch.allclose(merger.result(), net(image[None])[0], atol=1e-5)


def test_finished_rows_are_kept_as_they_are_wanted():
    image, grid, heights = torch.rand(3, 61, 45), Grid((61, 45), 16, 4, halo=1), []

    def best(rows: torch.Tensor) -> torch.Tensor:
        heights.append(rows.shape[1])
        return rows.argmax(dim=0).to(torch.uint8)

    classes = Merger(grid, best)
    for tile in grid:
        classes.add(tile, image[:, tile.rows, tile.columns])
    assert (classes.result() == image.argmax(dim=0)).float().mean() > 0.999
    assert len(heights) == grid.shape[0] and max(heights) <= 16


def test_a_small_image_is_one_tile():
    grid = Grid((10, 300), 64, 16)
    assert grid.shape[0] == 1 and next(iter(grid)).rows == slice(0, 10)


def test_faults_are_reported():
    with pytest.raises(UsageError, match="smaller than the tile"):
        Grid((100, 100), 32, 32)
    with pytest.raises(UsageError, match="at most half"):
        Grid((100, 100), 32, 8, halo=5)
    with pytest.raises(UsageError, match="multiples"):
        Grid((100, 100), 30, 8, align=4)
    grid = Grid((100, 100), 64, 8)
    tiles = list(grid)
    merger = Merger(grid)
    with pytest.raises(UsageError, match="order of the grid"):
        merger.add(tiles[1], torch.zeros(1, 64, 64))
    merger = Merger(grid)
    with pytest.raises(UsageError, match=r"its map is \(C, 64, 64\)"):
        merger.add(tiles[0], torch.zeros(1, 60, 64))
    merger = Merger(grid)
    merger.add(tiles[0], torch.zeros(1, 64, 64))
    with pytest.raises(UsageError, match="not added yet"):
        merger.result()


class Gated(nn.Module):
    """A convolution whose gate is wide open, computed from means over the whole image."""

    def __init__(self, gate):
        super().__init__()
        self.gate, self.conv = gate, nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x):
        return self.conv(x) * self.gate(100 * x.mean((2, 3), keepdim=True)).mean(1, keepdim=True)


@pytest.mark.parametrize(
    "gate", [nn.Hardsigmoid(), nn.Sigmoid(), nn.ReLU6(inplace=True), nn.Tanh(), lambda x: x.add(3).clamp_(0, 6).div_(6)]
)
def test_what_a_saturated_gate_is_computed_from_is_seen(gate):
    assert receptive_field(Gated(gate), limit=16) is None
    assert receptive_field(nn.Sequential(network(), nn.Hardtanh(-1e-9, 1e-9)), limit=16) == 4


def test_the_receptive_field_is_found():
    assert receptive_field(network(), limit=16) == 4
    assert receptive_field(nn.Conv2d(3, 1, 1), limit=8) == 0
    assert receptive_field(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Upsample(size=33)), limit=16) is None
    strided = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 4, 3, padding=1))
    assert receptive_field(strided, limit=20, align=4) in (5, 6)
