"""Bicubic enlargement as a layer: the papers' kernel, the same in torch, in an exported graph and on a window.

It equals `F.interpolate(mode="bicubic", antialias=True)`, Pillow and MATLAB's `imresize` (a = -0.5, Keys, 1981), and
not torch's bicubic without antialias, whose a is -0.75.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REACH = 2  # low-resolution pixels to each side that one pixel of the prediction depends on


class Bicubic(nn.Module):
    """Enlarges by a whole factor, with fixed weights in buffers.

    Each of the `scale` phases between two pixels has its five weights, so the enlargement is one convolution and a
    pixel shuffle. At the border the weights that fall outside are left out and the others add up to 1 again.

    Args:
        scale: Factor, at least 1.
    """

    weight: Tensor
    sums: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        taps = torch.arange(-_REACH, _REACH + 1, dtype=torch.float64)
        table = _keys(taps[None, :] - phase[:, None])
        table = table / table.sum(dim=1, keepdim=True)
        both = table[:, None, :, None] * table[None, :, None, :]  # row phase, column phase, row tap, column tap
        side = 2 * _REACH + 1
        self.register_buffer("weight", both.reshape(scale * scale, 1, side, side).float(), persistent=False)
        self.register_buffer("sums", table.float().view(scale, 1, side, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, h, w) float to (B, C, scale * h, scale * w) float32."""
        if torch.is_autocast_enabled(image.device.type):  # eight bits of mantissa are gray levels lost
            with torch.autocast(image.device.type, enabled=False):
                return self._enlarge(image.float())
        return self._enlarge(image)

    def _enlarge(self, image: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        s = self.scale
        planes = image.reshape(batch * channels, 1, height, width)
        out = F.pixel_shuffle(F.conv2d(planes, self.weight, padding=_REACH), s)
        # What the weights add up to is 1 inside and less at the border; rows and columns are independent.
        down = self._totals(torch.ones_like(planes[:1, :, :, :1]))
        across = self._totals(torch.ones_like(planes[:1, :, :1, :]).transpose(2, 3)).transpose(2, 3)
        return (out / (down * across)).reshape(batch, channels, height * s, width * s)

    def _totals(self, ones: Tensor) -> Tensor:
        """(1, 1, n, 1) ones to the (1, 1, scale * n, 1) sums of weights that fall inside."""
        phases = F.conv2d(ones, self.sums, padding=(_REACH, 0))  # (1, scale, n, 1)
        return phases.permute(0, 3, 2, 1).reshape(1, 1, -1, 1)


def _keys(distance: Tensor) -> Tensor:
    """The cubic kernel with a = -0.5."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
