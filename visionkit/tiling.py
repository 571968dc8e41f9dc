"""Large pictures in windows: cut with overlap, answered one by one, blended without a seam and with little memory.

A network that sees `r` pixels to each side answers wrongly within `r` pixels of a window's border, because it cannot
see beyond. Those answers get no weight (`halo`); where two windows are both right their answers are blended by a ramp.
So with `halo >= r` the tiled answer is that of the whole picture, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError


class Tile(NamedTuple):
    """One window.

    Attributes:
        rows: Its rows in the picture.
        columns: Its columns in the picture.
        place: Number of its row and column in the grid.
    """

    rows: slice
    columns: slice
    place: tuple[int, int]


class Grid:
    """Windows that cover a picture, row by row.

    Args:
        size: Height and width of the picture.
        tile: Side of a window, or its height and width; a picture that is smaller is one window along that side.
        overlap: Pixels that neighbours share at least.
        halo: Pixels at a window's inner border whose answers are not used; a quarter of the overlap where left out.
            Twice the halo fits into the overlap.
        align: Windows start at multiples of it, which a network with that stride needs; the last one of a row or column
            is then up to `align - 1` pixels larger.

    Raises:
        UsageError: The overlap does not fit into a window, or the halo into the overlap.

    Example:
        >>> grid = Grid((1000, 1500), tile=256, overlap=32)
        >>> merger = Merger(grid)
        >>> for tile in grid:
        ...     merger.add(tile, network(picture[:, tile.rows, tile.columns]))
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
        """Windows down and across."""
        return len(self._rows), len(self._columns)

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def core(self, tile: Tile) -> tuple[slice, slice]:
        """The rows and columns of the picture that a window answers for where nothing is blended.

        The cores of all windows cover the picture, each pixel once, and lie at least half the overlap from a window's
        inner border.
        """
        return _core(self._rows, tile.place[0]), _core(self._columns, tile.place[1])

    def __iter__(self) -> Iterator[Tile]:
        for i, (top, bottom) in enumerate(self._rows):
            for j, (left, right) in enumerate(self._columns):
                yield Tile(slice(top, bottom), slice(left, right), (i, j))


def _spans(length: int, tile: int, overlap: int, align: int) -> list[tuple[int, int]]:
    """Start and end of each window along one side, evenly spread."""
    if length < tile + align:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    last = (length - tile) // align * align
    starts = [round(k * last / (count - 1) / align) * align for k in range(count)]
    # Rounding to multiples can open a gap of less than `align` in the overlap; one more window closes it.
    if any(b - a > tile - overlap for a, b in pairwise(starts)):
        starts = [round(k * last / count / align) * align for k in range(count + 1)]
    return [(start, start + tile if k < len(starts) - 1 else length) for k, start in enumerate(starts)]


def _core(spans: list[tuple[int, int]], number: int) -> slice:
    """What one window has to itself when neighbours meet in the middle of what they share."""
    start, end = spans[number]
    first = start if number == 0 else (spans[number - 1][1] + start) // 2
    last = end if number == len(spans) - 1 else (end + spans[number + 1][0]) // 2
    return slice(first, last)


def _weights(spans: list[tuple[int, int]], overlap: int, halo: int) -> list[Tensor]:
    """One weight a pixel and window; over the windows that share a pixel they add up to 1.

    Both sides of the grid are independent, so a window's weights are the product of its row and column weights, and no
    map of sums has to be kept.
    """
    total = np.zeros(spans[-1][1])
    out: list[np.ndarray] = []
    ramp = overlap - 2 * halo
    for k, (start, end) in enumerate(spans):
        place = np.arange(end - start) + 0.5
        weight = np.ones(end - start)
        # The ramp never reaches 0 within it, so every pixel has a window that answers for it.
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


class Merger:
    """Puts the answers of a grid's windows together; only one row of windows is held in float.

    Args:
        grid: The windows, whose answers are added in its order.
        scale: Answers are so many times larger than their windows (super-resolution).
        finish: Turns finished rows (C, h, W) float into what is kept, such as uint8 pixels or an argmax (h, W); by
            default they are kept as they are.
    """

    def __init__(self, grid: Grid, scale: int = 1, finish: Callable[[Tensor], Tensor] | None = None) -> None:
        self.grid, self.scale, self.finish = grid, scale, finish
        self._band: Tensor | None = None
        self._top = 0  # first row, in pixels of the answer, that the band holds
        self._out: Tensor | None = None
        self._expected = iter(grid)

    def add(self, tile: Tile, values: Tensor) -> None:
        """Adds the answer to one window.

        Args:
            tile: The next of the grid.
            values: (C, scale * h, scale * w), on any device.

        Raises:
            UsageError: Another window's turn, or an answer of another size.
        """
        if next(self._expected, None) != tile:
            raise UsageError(f"tile {tile.place}: windows are added in the order of the grid, each once")
        s = self.scale
        height, width = (tile.rows.stop - tile.rows.start) * s, (tile.columns.stop - tile.columns.start) * s
        if values.ndim != 3 or tuple(values.shape[1:]) != (height, width):
            raise UsageError(f"tile {tile.place}: its answer is (C, {height}, {width}), not {tuple(values.shape)}")
        if tile.place[1] == 0:
            self._start_row(tile.rows.start * s, height, values)
        assert self._band is not None
        row, column = self.grid.row_weights[tile.place[0]], self.grid.column_weights[tile.place[1]]
        down = row.repeat_interleave(s).to(values.device)
        across = column.repeat_interleave(s).to(values.device)
        offset = tile.rows.start * s - self._top
        part = self._band[:, offset : offset + height, tile.columns.start * s : tile.columns.stop * s]
        part += values.float() * down[:, None] * across

    def result(self) -> Tensor:
        """The whole answer.

        Raises:
            UsageError: Windows are missing.
        """
        missing = next(self._expected, None)
        if missing is not None:
            raise UsageError(f"tile {missing.place}: not added yet")
        if self._band is not None:
            self._flush(self.grid.size[0] * self.scale)
            self._band = None
        assert self._out is not None
        return self._out

    def _start_row(self, top: int, height: int, values: Tensor) -> None:
        """Rows above `top` get nothing more: they are finished, and the band moves down."""
        width = self.grid.size[1] * self.scale
        band = values.new_zeros((values.shape[0], height, width), dtype=torch.float32)
        if self._band is not None:
            kept = self._band.shape[1] - (top - self._top)
            self._flush(top)
            band[:, :kept] = self._band[:, self._band.shape[1] - kept :]
        self._band, self._top = band, top

    def _flush(self, bottom: int) -> None:
        assert self._band is not None
        rows = self._band[:, : bottom - self._top]
        done = (self.finish(rows) if self.finish is not None else rows).cpu()
        if self._out is None:
            self._out = done.new_empty((*done.shape[:-2], self.grid.size[0] * self.scale, done.shape[-1]))
        self._out[..., self._top : bottom, :] = done


def receptive_field(module: nn.Module, channels: int = 3, limit: int = 256, align: int = 1) -> int | None:
    """How many pixels to each side one answer of a module depends on, found by gradients: the halo that it needs.

    Args:
        module: Takes (1, C, h, w) float, gives a map or a sequence of maps.
        channels: C.
        limit: Largest radius that is looked for.
        align: Sides of the input are multiples of it. Answers at all places between two multiples are looked at, since
            strided layers see further from some than from others.

    Returns:
        The radius in pixels, at most `align - 1` too large, or None where an answer depends on all within the limit
        (global pooling, attention).
    """
    long = -(-(2 * limit + 1) // align) * align
    # Both directions are looked at by themselves: a strip takes a small part of the memory of a square.
    short = min(long, max(2 * align, 64 // align * align))
    strips = ((1, (channels, long, short)), (2, (channels, short, long)))
    reaches = [_reach(module, shape, dim, align) for dim, shape in strips]
    found = [reach for reach in reaches if reach is not None]
    return max(found) if len(found) == len(reaches) else None


def _reach(module: nn.Module, shape: tuple[int, int, int], dim: int, align: int) -> int | None:
    """The same along one dimension of a picture of that shape."""
    parameter = next(module.parameters(), None)
    training = module.training
    module.eval()
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    if parameter is not None:
        image = image.to(parameter)
    image.requires_grad_()
    try:
        with torch.enable_grad():
            answer = module(image)
            answer = answer if isinstance(answer, Tensor) else answer[0]
            across = 3 - dim
            middle = answer.select(1 + across, answer.shape[1 + across] // 2)
            step = shape[dim] / answer.shape[1 + dim]
            number = max(1, round(align / step))
            begin = answer.shape[1 + dim] // 2 - number // 2
            (gradient,) = torch.autograd.grad(middle.narrow(-1, begin, number).sum(), image)
    finally:
        module.train(training)
    touched = (gradient[0].abs().amax(dim=0) > 0).any(dim=2 - dim).nonzero().flatten()
    if not len(touched):
        return 0
    first, last = int(touched[0]), int(touched[-1])
    if first == 0 or last == shape[dim] - 1:
        return None
    centres = int(begin * step + step / 2), int((begin + number - 1) * step + step / 2)
    return max(centres[1] - first, last - centres[0])
