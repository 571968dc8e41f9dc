"""The tiles in which a large image is processed, the limit of its size, and the mean over its flipped and turned forms.

A tile has as much around its own part as the network sees, so the result is that of the whole image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.errors import DataError, UsageError
from visionkit.tiling import Grid, receptive_field

MAX_OUTPUT_PIXELS = int(os.environ.get("VISIONKIT_MAX_OUTPUT_PIXELS", 1_000_000_000))
"""A larger prediction is refused before memory is taken.

The environment variable VISIONKIT_MAX_OUTPUT_PIXELS moves it.
"""

TILE = 384
"""Largest side of a tile in pixels of the input, with its surroundings, where the network does not look too far."""

WHOLE = 1 << 20
"""Pixels up to which a network that sees the whole image takes it whole: every map of it is as large as the image."""

_LARGE_TILE = 640  # of a network that sees the whole image, which knows the more of it the larger a tile is
_UNSEEN = 32  # around a forced tile of a network that processes the whole image, where no width would be enough


@dataclass(frozen=True)
class TileMargins:
    """How far the receptive field of a network reaches.

    Attributes:
        halo: Pixels of the input to each side, or None for all of the image.
        align: Tiles begin at multiples of it.
    """

    halo: int | None
    align: int = 1


def find_reach(network: nn.Module, align: int = 1, channels: int = 3) -> TileMargins:
    """Finds by gradients how far the receptive field of a network reaches; nothing of it is typed in.

    Args:
        network: It is changed: its weights become positive, so that no path is dead and none hides another.
        align: Side of its attention windows, or the stride of its coarsest features; 1 for plain convolutions.
        channels: Channels of its input.
    """
    if any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules()):
        return TileMargins(None, align)
    generator = torch.Generator().manual_seed(0)
    network.double()  # the farthest of seventy layers' paths would vanish in float32
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                fraction = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
                parameter.copy_(fraction / parameter[0].numel())
    for limit in (16, 32, 64, 128, 256):
        found = receptive_field(_Bright(network), channels, limit, align)
        if found is not None:
            # One more, since other phases of a low-resolution pixel may look one further; and wherever it lies in its
            # attention window.
            halo = found + 1 + (align if align > 1 else 0)
            return TileMargins(-(-halo // align) * align, align)
    return TileMargins(None, align)


class _Bright(nn.Module):
    """A network shown bright images, so that no activation of positive weights is cut off at 0."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Any:
        return self.network(image + 1.0)


def check_size(size: tuple[int, int], scale: int = 1, name: str = "an image") -> None:
    """Refuses a prediction above the limit, from the header alone.

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


def grid_of(size: tuple[int, int], reach: TileMargins, tile: int | None) -> Grid | None:
    """The tiles, or None where the image is processed whole.

    Args:
        size: Height and width of the input.
        reach: Receptive field of the network.
        tile: Largest side of a tile; 0 for the whole image, None as it suits: a network that sees the whole image takes
            it whole up to `WHOLE` pixels, and beyond in tiles, where the result differs a little.

    Raises:
        UsageError: A tile that is not larger than its surroundings.
    """
    if tile == 0 or (tile is None and reach.halo is None and size[0] * size[1] <= WHOLE):
        return None
    halo = reach.halo if reach.halo is not None else -(-_UNSEEN // reach.align) * reach.align
    side = max(TILE if reach.halo is not None else _LARGE_TILE, 6 * halo) if tile is None else tile
    side = -(-side // reach.align) * reach.align
    if side <= 2 * halo:
        raise UsageError(
            f"tile {tile}: this network's receptive field reaches {halo} pixels to each side, so a tile has more than "
            f"{2 * halo}; 0 takes the image whole"
        )
    # As few tiles as that side allows, and all alike: what neighbors share is processed twice.
    sides = (_even(size[0], side, halo, reach.align), _even(size[1], side, halo, reach.align))
    grid = Grid(size, sides, overlap=2 * halo, halo=halo, align=reach.align)
    return grid if len(grid) > 1 else None


def _even(length: int, most: int, halo: int, align: int) -> int:
    """The smallest side of tiles that are as few along a length as those of side `most`, in multiples of `align`."""
    count = max(1, -(-(length - 2 * halo) // (most - 2 * halo)))
    side = max(-(-(length + (count - 1) * 2 * halo) // count), 2 * halo + 1)
    return -(-side // align) * align


def ensembled(run: Callable[..., Any], field: str) -> Callable[..., Any]:
    """The network with the mean over an image's eight flipped and turned forms, each turned back (Lim et al., 2017).

    Args:
        run: Takes (B, C, h, w) inputs of one size, which are flipped and turned together, and returns a NamedTuple.
        field: The output that the mean is taken of, (B, C, H, W) float about [0, 1], clipped first; the other outputs
            are those of the last form.
    """

    def wrapped(*inputs: Tensor) -> Any:
        total: Tensor | None = None
        for turns in range(4):
            for flipped in (False, True):
                forms = (torch.rot90(each, turns, (2, 3)) for each in inputs)
                outputs = run(*((each.flip(3) if flipped else each).contiguous() for each in forms))
                values = getattr(outputs, field).float().clamp(0.0, 1.0)
                values = torch.rot90(values.flip(3) if flipped else values, -turns, (2, 3))
                total = values if total is None else total + values
        assert total is not None
        return outputs._replace(**{field: total / 8})

    return wrapped
