"""What becomes of the maps of tiles: blended without a seam, or pasted side by side, with little memory.

A network that sees `r` pixels to each side gives wrong values within `r` pixels of a tile's border, because it cannot
see beyond. Those values get no weight (`halo`). So with `halo >= r` the result equals that of the whole image, to
rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.predictions import ImagePrediction, Prediction
from visionkit.tiling.grid import Grid, Tile, view_of
from visionkit.types import View

BAND_BYTES = 256 << 20
"""A row of tiles that is held in float, and with it the one before, may take so much each."""

_GRAY = torch.tensor([0.299, 0.587, 0.114])


class MapReducer(ABC):
    """Takes what was decoded of one tile after the other, so that only the image, a few tiles and the result are held.

    Attributes:
        views: The tiles, in the order in which they are added.
    """

    views: tuple[View, ...]

    @abstractmethod
    def open(self, image: ImageSource, channels: int, bits: int) -> np.ndarray:
        """Decodes the image; tiles are cut from what this returns, (h, w, C); see `ImageSource.read`."""

    @abstractmethod
    def add(self, decoded: Any) -> None:
        """Takes what `VisionTask.decode` gave for the next tile."""

    @abstractmethod
    def prediction(self) -> Prediction:
        """The prediction on the whole image, once all tiles were added."""


class Overlap(NamedTuple):
    """How tiles lie.

    Attributes:
        tile: Side of a tile in file pixels, a multiple of `align`.
        overlap: Pixels that neighbors share at least, a multiple of `align`.
        halo: Pixels at a tile's inner border whose values are not used.
        align: Tiles start at multiples of it.
    """

    tile: int
    overlap: int
    halo: int
    align: int


class BlendMap(MapReducer):
    """Dense maps, blended where tiles overlap.

    An image is cut into upright stripes so narrow that a row of tiles fits into `BAND_BYTES`; stripes overlap like
    tiles and meet in the middle of that, where both are right.

    Args:
        size: Height and width of the image.
        overlap: How the tiles lie.
        channels: C, from which follows how wide a band of tiles may be.
        values: What was decoded of one tile to its map (C, h, w), at least as large as the tile.
        finish: Finished rows (C, h, W) to what is kept of them, see `Merger`.
        predict: What was kept of the whole image to the prediction.
    """

    def __init__(
        self,
        size: tuple[int, int],
        overlap: Overlap,
        channels: int,
        values: Callable[[Any], Tensor],
        finish: Callable[[Tensor], Tensor] | None,
        predict: Callable[[Tensor], Prediction],
    ) -> None:
        self.size, self.overlap = size, overlap
        self._values, self._finish, self._predict = values, finish, predict
        tile, shared, halo, align = overlap
        widest = max(tile, BAND_BYTES // (channels * tile * 4) // align * align)
        stripes = Grid((tile, size[1]), (tile, widest), shared, halo, align)
        self._spans = [(each.columns.start, each.columns.stop) for each in stripes]
        self._grids = [Grid((size[0], end - start), tile, shared, halo, align) for start, end in self._spans]
        self._steps = [(number, each) for number, grid in enumerate(self._grids) for each in grid]
        self._merger = Merger(self._grids[0], finish)
        self.views = tuple(view_of(each, self._spans[number][0]) for number, each in self._steps)
        self._added, self._whole = 0, torch.empty(0)

    def open(self, image: ImageSource, channels: int, bits: int) -> np.ndarray:
        return image.read(channels, bits=bits)

    def add(self, decoded: Any) -> None:
        number, tile = self._steps[self._added]
        self._added += 1
        height, width = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
        self._merger.add(tile, self._values(decoded)[:, :height, :width])
        last = self._added == len(self._steps)
        if last or self._steps[self._added][0] != number:
            self._keep(number, self._merger.result())
            self._merger = Merger(self._grids[number if last else number + 1], self._finish)

    def _keep(self, number: int, part: Tensor) -> None:
        """Puts a finished stripe into the whole."""
        if len(self._spans) == 1:
            self._whole = part
            return
        start, end = self._spans[number]
        if number == 0:
            self._whole = part.new_empty((*part.shape[:-1], self.size[1]))
        left = 0 if number == 0 else (self._spans[number - 1][1] + start) // 2
        right = self.size[1] if number + 1 == len(self._spans) else (end + self._spans[number + 1][0]) // 2
        self._whole[..., left:right] = part[..., left - start : right - start]

    def prediction(self) -> Prediction:
        return self._predict(self._whole)


class Merger:
    """Blends the maps of a grid's tiles; only one row of tiles is held in float.

    Args:
        grid: The tiles, whose maps are added in its order.
        finish: Turns finished rows (C, h, W) float into what is kept, such as an argmax (h, W); by default they are
            kept as they are.
    """

    def __init__(self, grid: Grid, finish: Callable[[Tensor], Tensor] | None = None) -> None:
        self.grid, self.finish = grid, finish
        self._band: Tensor | None = None
        self._top = 0  # first row that the band holds
        self._out: Tensor | None = None
        self._expected = iter(grid)

    def add(self, tile: Tile, values: Tensor) -> None:
        """Adds the map of one tile.

        Args:
            tile: The next of the grid.
            values: (C, h, w), on any device.

        Raises:
            UsageError: Another tile's turn, or a map of another size.
        """
        if next(self._expected, None) != tile:
            raise UsageError(f"tile {tile.place}: tiles are added in the order of the grid, each once")
        height, width = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
        if values.ndim != 3 or tuple(values.shape[1:]) != (height, width):
            raise UsageError(f"tile {tile.place}: its map is (C, {height}, {width}), not {tuple(values.shape)}")
        if tile.place[1] == 0:
            self._start_row(tile.rows.start, height, values)
        assert self._band is not None
        row, column = self.grid.row_weights[tile.place[0]], self.grid.column_weights[tile.place[1]]
        offset = tile.rows.start - self._top
        part = self._band[:, offset : offset + height, tile.columns]
        part += values.float() * row.to(values.device)[:, None] * column.to(values.device)

    def result(self) -> Tensor:
        """The whole map.

        Raises:
            UsageError: Tiles are missing.
        """
        missing = next(self._expected, None)
        if missing is not None:
            raise UsageError(f"tile {missing.place}: not added yet")
        if self._band is not None:
            self._flush(self.grid.size[0])
            self._band = None
        assert self._out is not None
        return self._out

    def _start_row(self, top: int, height: int, values: Tensor) -> None:
        """Rows above `top` get nothing more: they are finished, and the band moves down."""
        width = self.grid.size[1]
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
            self._out = done.new_empty((*done.shape[:-2], self.grid.size[0], done.shape[-1]))
        self._out[..., self._top : bottom, :] = done


class PasteImage(MapReducer):
    """Image to image: each tile's own part is rounded into the result at once; depth, gray and transparency are kept.

    Args:
        size: Height and width of the image.
        scale: The result is so many times larger.
        grid: The tiles, or None for the whole image.
        alpha: Enlarges transparency: (1, 1, h, w) float to (1, 1, scale * h, scale * w); by default it stays.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: int = 1,
        grid: Grid | None = None,
        alpha: Callable[[Tensor], Tensor] = lambda alpha: alpha,
    ) -> None:
        self.size, self.scale = size, scale
        whole = Tile(slice(0, size[0]), slice(0, size[1]), (0, 0))
        self._tiles = [(each, grid.core(each)) for each in grid] if grid is not None else [(whole, whole[:2])]
        self.views = tuple(view_of(tile) for tile, _ in self._tiles)
        self._alpha, self._added = alpha, 0
        self._pixels = self._out = np.empty((0, 0, 3), np.uint8)

    def open(self, image: ImageSource, channels: int, bits: int) -> np.ndarray:
        """The colors alone, (h, w, 1 or 3): transparency does not go through the network.

        A network of one channel makes colors gray. The result of floats has 16 bit.
        """
        floats = image.read_floats() if bits == 32 else None
        self._pixels = image.read_as_is() if floats is None else floats
        if channels == 1 and self._pixels.shape[2] > 2:
            self._pixels = _gray(self._pixels)
        height, width, count = self._pixels.shape
        kept = self._pixels.dtype if floats is None else np.uint16
        self._out = np.empty((height * self.scale, width * self.scale, count), kept)
        return self._pixels[:, :, :1] if count < 3 else self._pixels[:, :, :3]

    def add(self, decoded: Tensor) -> None:
        """Takes (1, 1 or 3, scale * h, scale * w) on a scale of 255."""
        tile, (rows, columns) = self._tiles[self._added]
        self._added += 1
        s, count, values = self.scale, self._pixels.shape[2], decoded[0].float().cpu()
        if count < 3 and len(values) == 3:  # a network of three channels may color a gray image by a trace
            values = (values * _GRAY.view(3, 1, 1)).sum(dim=0, keepdim=True)
        values = values[:, : (tile.rows.stop - tile.rows.start) * s, : (tile.columns.stop - tile.columns.start) * s]
        if count in (2, 4):  # the network's divisor may have added rows and columns, which transparency does not have
            clear = np.ascontiguousarray(self._pixels[tile.rows, tile.columns, -1]).astype(np.float32)
            clear /= 257 if self._pixels.dtype == np.uint16 else 1
            values = torch.cat([values, self._alpha(torch.from_numpy(clear)[None, None]).cpu()[0]])
        top, left = (rows.start - tile.rows.start) * s, (columns.start - tile.columns.start) * s
        part = values[:, top : top + (rows.stop - rows.start) * s, left : left + (columns.stop - columns.start) * s]
        deep = self._out.dtype == np.uint16
        part = (part * 257.0 if deep else part).round().clamp(0, 65535 if deep else 255)
        place = self._out[rows.start * s : rows.stop * s, columns.start * s : columns.stop * s]
        place[:] = part.to(torch.uint16 if deep else torch.uint8).permute(1, 2, 0).numpy()

    def prediction(self) -> Prediction:
        return ImagePrediction(self._out, self.scale)


def _gray(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3 or 4) of any depth as gray, or gray and alpha."""
    white = 255.0 if pixels.dtype == np.float32 else None
    gray = ImageSource(np.ascontiguousarray(pixels[:, :, :3]), white=white).read(1, bits=32)
    return np.concatenate([gray, pixels[:, :, 3:]], axis=2)
