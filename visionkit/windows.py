"""How a task answers a picture larger than memory: which windows, what becomes of their answers, how much is held.

`visionkit.tiling` cuts and blends; this says with which numbers, and keeps the memory bounded whatever the width of the
picture and the number of channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from visionkit.tiling import Grid, Merger, receptive_field

if TYPE_CHECKING:
    from visionkit.predictions import Prediction

BAND_BYTES = 256 << 20
"""A row of windows that is held in float, and with it the one before, may take so much each."""

Look = Callable[[tuple[int, int, int, int]], Tensor]
"""Answers one window, given as x1, y1, x2, y2 in file pixels: (C, scale * h, scale * w) or more."""


class Tiling(NamedTuple):
    """How a task answers a picture that is too large to be looked at whole; `Predictor` does the rest.

    Attributes:
        tile: Side of a window in file pixels, a multiple of `align`.
        overlap: Pixels that neighbours share at least, a multiple of `align`.
        halo: Pixels at a window's inner border whose answers are not used.
        align: Windows start at multiples of it.
        values: The network's outputs on one window to a map (C, scale * h, scale * w), at least as large as the window.
        finish: Finished rows (C, h, W) to what is kept of them, see `Merger`.
        answer: What was kept of the whole picture to the prediction.
        channels: C, from which follows how wide a band of windows may be.
        scale: Answers are so many times larger than the picture.
    """

    tile: int
    overlap: int
    halo: int
    align: int
    values: Callable[[Any], Tensor]
    finish: Callable[[Tensor], Tensor]
    answer: Callable[[Tensor], Prediction]
    channels: int = 3
    scale: int = 1


def choose_overlap(tile: int, align: int, reach: int | None) -> tuple[int, int]:
    """Overlap and halo of windows, from what the network sees.

    Args:
        tile: Side of a window.
        align: The overlap is a multiple of it.
        reach: Of `receptive_field`; None for a network that sees everything.

    Returns:
        What makes windows equal the whole, where that costs at most half a window; otherwise a quarter of it, of which
        the outer quarter is not used, which is right but for what the network sees from further away.
    """
    if reach is not None:
        overlap = -(-2 * reach // align) * align
        if 2 * overlap <= tile:
            return overlap, reach
    overlap = -(-tile // 4 // align) * align
    return overlap, overlap // 4


def answer_in_windows(size: tuple[int, int], tiling: Tiling, look: Look) -> Prediction:
    """Answers a picture window by window.

    A picture is cut into upright stripes so narrow that a row of windows fits into `BAND_BYTES`; stripes overlap like
    windows and meet in the middle of that, where both are right.

    Args:
        size: Height and width of the picture.
        tiling: How.
        look: Runs the network on one window.
    """
    height, width = size
    row = tiling.channels * tiling.tile * tiling.scale**2 * 4
    widest = max(tiling.tile, BAND_BYTES // row // tiling.align * tiling.align)
    stripes = Grid((tiling.tile, width), (tiling.tile, widest), tiling.overlap, tiling.halo, tiling.align)
    spans = [(tile.columns.start, tile.columns.stop) for tile in stripes]
    s, whole, left = tiling.scale, None, 0
    for number, (start, end) in enumerate(spans):
        grid = Grid((height, end - start), tiling.tile, tiling.overlap, tiling.halo, tiling.align)
        merger = Merger(grid, s, tiling.finish)
        for tile in grid:
            box = (start + tile.columns.start, tile.rows.start, start + tile.columns.stop, tile.rows.stop)
            values = look(box)
            merger.add(tile, values[:, : (box[3] - box[1]) * s, : (box[2] - box[0]) * s])
        part = merger.result()
        if len(spans) == 1:
            return tiling.answer(part)
        if whole is None:
            whole = part.new_empty((*part.shape[:-1], width * s))
        right = (end + spans[number + 1][0]) // 2 if number + 1 < len(spans) else width
        whole[..., left * s : right * s] = part[..., (left - start) * s : (right - start) * s]
        left = right
    assert whole is not None
    return tiling.answer(whole)


def reach_of(module: nn.Module, channels: int = 3, align: int = 1, limit: int = 512) -> int | None:
    """What an architecture can see, whatever its weights have learnt and wherever they are (in a graph, say).

    It is `receptive_field` of a copy with weights that are all positive: no path through it is cancelled or cut off.

    Args:
        module: See `receptive_field`; it is not changed.
        channels: See `receptive_field`.
        align: See `receptive_field`.
        limit: See `receptive_field`.
    """
    module = copy.deepcopy(module)
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                fan = max(1, parameter[:1].numel())
                owner._parameters[name] = nn.Parameter(torch.full(parameter.shape, 1.0 / fan))
    return receptive_field(module, channels, limit, align)
