"""Enlarges a picture of any size: window by window, its depth, grey and transparency kept.

Only one window is in floating point at a time; what is finished is rounded into the answer at once. A window has as
much around what it answers for as the network looks at, so the answer is that of the whole picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import DataError, UsageError
from visionkit.tiling import Grid, receptive_field

MAX_OUTPUT_PIXELS = int(os.environ.get("VISIONKIT_MAX_OUTPUT_PIXELS", 1_000_000_000))
"""A larger answer is refused before memory is taken; the environment variable VISIONKIT_MAX_OUTPUT_PIXELS moves it."""

TILE = 384
"""Largest side of a window in low-resolution pixels, with its surroundings, where the network does not look too far."""

_UNSEEN = 32  # around a forced window of a network that looks at the whole picture, where no width would be enough
_GREY = torch.tensor([0.299, 0.587, 0.114])

Network = Callable[[Tensor], Tensor]
"""(B, 3, h, w) uint8, or float on the same scale, to (B, 3, s*h, s*w) float on a scale of 255."""


@dataclass(frozen=True)
class Reach:
    """How far a network looks.

    Attributes:
        halo: Low-resolution pixels to each side, or None for all of the picture.
        align: Windows begin at multiples of it.
    """

    halo: int | None
    align: int = 1


def reach_of(network: nn.Module, align: int = 1) -> Reach:
    """Finds by gradients how far a network looks; nothing of it is typed in.

    Args:
        network: It is changed: its weights become positive, so that no path is dead and none hides another.
        align: Side of its attention windows, 1 for convolutions.
    """
    if any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules()):
        return Reach(None, align)
    generator = torch.Generator().manual_seed(0)
    network.double()  # the farthest of seventy layers' paths would vanish in float32
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                share = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
                parameter.copy_(share / parameter[0].numel())
    for limit in (16, 32, 64, 128, 256):
        found = receptive_field(_Bright(network), limit=limit, align=align)
        if found is not None:
            # One more, since other phases of a low-resolution pixel may look one further; and wherever it lies in its
            # attention window.
            halo = found + 1 + (align if align > 1 else 0)
            return Reach(-(-halo // align) * align, align)
    return Reach(None, align)


class _Bright(nn.Module):
    """A network shown bright pictures, so that no activation of positive weights is cut off at 0."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        return self.network(image + 1.0)


def check_size(size: tuple[int, int], scale: int, name: str) -> None:
    """Refuses an answer above the limit, from the header alone.

    Raises:
        DataError: With both sizes and what moves the limit.
    """
    height, width = size
    pixels = height * width * scale * scale
    if pixels > MAX_OUTPUT_PIXELS:
        raise DataError(
            f"{name}: {width}x{height} at x{scale} is {pixels / 1e6:,.0f} megapixels, over the limit of "
            f"{MAX_OUTPUT_PIXELS / 1e6:,.0f}; cut it first or set VISIONKIT_MAX_OUTPUT_PIXELS to raise it"
        )


def grid_of(size: tuple[int, int], reach: Reach, tile: int | None) -> Grid | None:
    """The windows, or None where the picture is answered whole.

    Args:
        size: Height and width of the low resolution.
        reach: Of the network.
        tile: Largest side of a window; 0 for the whole picture, None as it suits.

    Raises:
        UsageError: A window that is not larger than its surroundings.
    """
    if tile == 0 or (tile is None and reach.halo is None):
        return None
    halo = reach.halo if reach.halo is not None else -(-_UNSEEN // reach.align) * reach.align
    side = max(TILE, 6 * halo) if tile is None else tile
    side = -(-side // reach.align) * reach.align
    if side <= 2 * halo:
        raise UsageError(
            f"tile {tile}: this network looks {halo} pixels to each side, so a window has more than {2 * halo}; "
            "0 takes the picture whole"
        )
    # As few windows as that side allows, and all alike: what neighbours share is answered twice.
    sides = (_even(size[0], side, halo, reach.align), _even(size[1], side, halo, reach.align))
    grid = Grid(size, sides, overlap=2 * halo, halo=halo, align=reach.align)
    return grid if len(grid) > 1 else None


def _even(length: int, most: int, halo: int, align: int) -> int:
    """The smallest side of windows that are as few along a length as those of side `most`, in multiples of `align`."""
    count = max(1, -(-(length - 2 * halo) // (most - 2 * halo)))
    side = max(-(-(length + (count - 1) * 2 * halo) // count), 2 * halo + 1)
    return -(-side // align) * align


def enlarge(
    pixels: np.ndarray,
    network: Network,
    scale: int,
    grid: Grid | None,
    alpha: Network,
    ensemble: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Enlarges pixels.

    Args:
        pixels: (h, w, C) uint8 or uint16: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        network: Enlarges colours.
        scale: Its factor.
        grid: The windows, or None.
        alpha: Enlarges transparency: (1, 1, h, w) float.
        ensemble: Mean over the eight mirrored and turned forms (Lim et al., 2017); takes eight times as long.
        progress: Called with the windows done and all of them.

    Returns:
        (s * h, s * w, C) of the same type.
    """
    height, width, channels = pixels.shape
    out = np.empty((height * scale, width * scale, channels), dtype=pixels.dtype)
    windows = list(grid) if grid is not None else []
    run = (lambda image: _ensemble(network, image)) if ensemble else network
    if grid is None or not windows:
        _store(out, slice(0, height), slice(0, width), _answer(pixels, run, alpha), scale, (0, 0))
        if progress is not None:
            progress(1, 1)
        return out
    for number, window in enumerate(windows):
        rows, columns = grid.core(window)
        answer = _answer(pixels[window.rows, window.columns], run, alpha)
        _store(out, rows, columns, answer, scale, (window.rows.start, window.columns.start))
        if progress is not None:
            progress(number + 1, len(windows))
    return out


def _answer(pixels: np.ndarray, network: Network, alpha: Network) -> Tensor:
    """(h, w, C) to (C, s*h, s*w) float32 on a scale of 255."""
    channels = pixels.shape[2]
    image = _tensor(pixels[:, :, :1] if channels < 3 else pixels[:, :, :3])
    values = network(image.expand(1, 3, -1, -1) if channels < 3 else image)[0].float().cpu()
    if channels < 3:  # a network of three channels may colour a grey picture by a trace
        values = (values * _GREY.view(3, 1, 1)).sum(dim=0, keepdim=True)
    if channels in (2, 4):
        clear = alpha(_tensor(pixels[:, :, -1:]).float()).cpu()[0]
        values = torch.cat([values, clear])
    return values


def _tensor(pixels: np.ndarray) -> Tensor:
    """(h, w, C) to (1, C, h, w): uint8 as it is, uint16 as float on the scale of 8 bit."""
    from visionkit.preprocess import to_scale

    part = np.ascontiguousarray(pixels) if pixels.dtype == np.uint8 else to_scale(pixels)
    part = part if part.flags.writeable else part.copy()
    return torch.from_numpy(part)[None].permute(0, 3, 1, 2)


def _store(out: np.ndarray, rows: slice, columns: slice, values: Tensor, scale: int, origin: tuple[int, int]) -> None:
    """Rounds the part of a window that counts into the answer."""
    top, left = (rows.start - origin[0]) * scale, (columns.start - origin[1]) * scale
    height, width = (rows.stop - rows.start) * scale, (columns.stop - columns.start) * scale
    part = values[:, top : top + height, left : left + width]
    deep = out.dtype == np.uint16
    part = (part * 257.0 if deep else part).round().clamp(0, 65535 if deep else 255)
    place = out[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
    place[:] = part.to(torch.uint16 if deep else torch.uint8).permute(1, 2, 0).numpy()


def _ensemble(network: Network, image: Tensor) -> Tensor:
    """The mean answer over the picture's eight mirrored and turned forms, each turned back."""
    total: Tensor | None = None
    for turns in range(4):
        for mirrored in (False, True):
            form = torch.rot90(image, turns, (2, 3))
            form = form.flip(3) if mirrored else form
            answer = network(form.contiguous())
            answer = answer.flip(3) if mirrored else answer
            answer = torch.rot90(answer, -turns, (2, 3))
            total = answer if total is None else total + answer
    assert total is not None
    return total / 8
