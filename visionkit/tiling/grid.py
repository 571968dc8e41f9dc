"""Tiles that cover an image: where they start, how far they overlap, and how much each counts where several do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import UsageError
from visionkit.types import View


class Tile(NamedTuple):
    """One tile.

    Attributes:
        rows: Its rows in the image.
        columns: Its columns in the image.
        place: Number of its row and column in the grid.
    """

    rows: slice
    columns: slice
    place: tuple[int, int]


class Grid:
    """Tiles that cover an image, row by row.

    Args:
        size: Height and width of the image.
        tile: Side of a tile, or its height and width; an image that is smaller is one tile along that side.
        overlap: Pixels that neighbors share at least.
        halo: Pixels at a tile's inner border whose predictions are not used; a quarter of the overlap by default.
            Twice the halo fits into the overlap.
        align: Tiles start at multiples of it, which a network with that stride needs; the last one of a row or column
            is then up to `align - 1` pixels larger.

    Raises:
        UsageError: The overlap does not fit into a tile, or the halo into the overlap.

    Example:
        >>> grid = Grid((1000, 1500), tile=256, overlap=32)
        >>> merger = Merger(grid)
        >>> for tile in grid:
        ...     merger.add(tile, network(image[:, tile.rows, tile.columns]))
        >>> merger.result().shape
        torch.Size([3, 1000, 1500])
    """

    def __init__(
        self,
        size: tuple[int, int],
        tile: int | tuple[int, int],
        overlap: int,
        halo: int | None = None,
        align: int = 1,
    ) -> None:
        height, width = (tile, tile) if isinstance(tile, int) else tile
        halo = overlap // 4 if halo is None else halo
        if overlap < 0 or min(height, width) <= overlap:
            raise UsageError(f"overlap {overlap}: must be at least 0 and smaller than the tile {height}x{width}")
        if halo < 0 or 2 * halo > overlap:
            raise UsageError(f"halo {halo}: must be at least 0 and at most half of the overlap {overlap}")
        if align < 1 or height % align or width % align or overlap % align:
            raise UsageError(f"align {align}: tile {height}x{width} and overlap {overlap} must be multiples of it")
        if min(size) < 1:
            raise UsageError(f"size {size}: height and width are at least 1")
        self.size = size
        self._rows = _spans(size[0], height, overlap, align)
        self._columns = _spans(size[1], width, overlap, align)
        self.row_weights = _weights(self._rows, overlap, halo)
        self.column_weights = _weights(self._columns, overlap, halo)

    @property
    def shape(self) -> tuple[int, int]:
        """Tiles down and across."""
        return len(self._rows), len(self._columns)

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def core(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of the image that a tile predicts where nothing is blended.

        The cores of all tiles cover the image, each pixel once, and lie at least half the overlap from a tile's
        inner border.
        """
        return _core(self._rows, tile.place[0]), _core(self._columns, tile.place[1])

    def __iter__(self) -> Iterator[Tile]:
        for i, (top, bottom) in enumerate(self._rows):
            for j, (left, right) in enumerate(self._columns):
                yield Tile(slice(top, bottom), slice(left, right), (i, j))


def _spans(length: int, tile: int, overlap: int, align: int) -> list[tuple[int, int]]:
    """Start and end of each tile along one side, evenly spread."""
    if length < tile + align:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    last = (length - tile) // align * align
    starts = [round(k * last / (count - 1) / align) * align for k in range(count)]
    # Rounding to multiples can open a gap of less than `align` in the overlap; one more tile closes it.
    if any(b - a > tile - overlap for a, b in pairwise(starts)):
        starts = [round(k * last / count / align) * align for k in range(count + 1)]
    return [(start, start + tile if k < len(starts) - 1 else length) for k, start in enumerate(starts)]


def _core(spans: list[tuple[int, int]], number: int) -> slice:
    """What one tile has to itself when neighbors meet in the middle of what they share."""
    start, end = spans[number]
    first = start if number == 0 else (spans[number - 1][1] + start) // 2
    last = end if number == len(spans) - 1 else (end + spans[number + 1][0]) // 2
    return slice(first, last)


def _weights(spans: list[tuple[int, int]], overlap: int, halo: int) -> list[Tensor]:
    """One weight per pixel and tile; over the tiles that share a pixel they add up to 1.

    Both sides of the grid are independent, so a tile's weights are the product of its row and column weights, and no
    map of sums has to be kept.
    """
    total = np.zeros(spans[-1][1])
    out: list[np.ndarray] = []
    ramp = overlap - 2 * halo
    for k, (start, end) in enumerate(spans):
        place = np.arange(end - start) + 0.5
        weight = np.ones(end - start)
        # The ramp never reaches 0 within it, so every pixel has a tile that predicts it.
        rise = np.clip((place - halo) / ramp, 0.0, 1.0) if ramp else (place > halo).astype(float)
        fall = np.clip((end - start - halo - place) / ramp, 0.0, 1.0) if ramp else (end - start - place > halo) * 1.0
        if k > 0:
            weight = weight * rise
        if k < len(spans) - 1:
            weight = weight * fall
        total[start:end] += weight
        out.append(weight)
    return [
        torch.from_numpy(weight / total[start:end]).float() for weight, (start, end) in zip(out, spans, strict=True)
    ]


def object_tiles(size: tuple[int, int], tile: int, overlap: int | None = None) -> list[View]:
    """The tiles in which objects are searched beside the whole image, row by row; none where the image is no larger.

    Args:
        size: Height and width of the image.
        tile: Side of a tile in file pixels; 0 makes none.
        overlap: Pixels that neighbors share at least; a quarter of the side by default.
    """
    if not tile or max(size) <= tile:
        return []
    shared = tile // 4 if overlap is None else overlap
    grid = Grid(size, (min(tile, size[0]), min(tile, size[1])), min(shared, min(size) - 1, tile - 1), halo=0)
    return [view_of(each) for each in grid]


def view_of(tile: Tile, left: int = 0) -> View:
    """The region of the file that a tile covers.

    Args:
        tile: Tile of a grid.
        left: Column of the file at which the grid begins.
    """
    return View((left + tile.columns.start, tile.rows.start, left + tile.columns.stop, tile.rows.stop))
