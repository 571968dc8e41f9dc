"""Luma of BT.601 in studio range, in which the papers train and measure: black is 16, white is 235."""

from __future__ import annotations

from torch import Tensor

_RED, _GREEN, _BLUE, _BLACK = 65.481, 128.553, 24.966, 16.0
LUMA_RANGE = 219.0
"""Gray levels between black and white: what the same step of red, green and blue from 0 to 1 adds to the luma."""


def luma(image: Tensor, top: float = 1.0) -> Tensor:
    """Y of RGB, as MATLAB's `rgb2ycbcr` gives it, not rounded.

    Args:
        image: (..., 3, h, w) float RGB in [0, top].
        top: White of both; 1 or 255.

    Returns:
        (..., 1, h, w) float: black is 16 and white 235 on a scale of 255.
    """
    red, green, blue = image.unbind(-3)
    y = (red * (_RED / 255) + green * (_GREEN / 255) + blue * (_BLUE / 255)) + _BLACK / 255 * top
    return y.unsqueeze(-3)
