"""Windowed attention for images: SwinIR in its light form (Liang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.families.restoration.body import Body

_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class _WindowAttention(nn.Module):
    """Attention among the pixels of a window, with a learned bias for each relative place."""

    positions: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        line = torch.arange(window)
        y, x = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="ij"))
        rows, columns = y[:, None] - y[None] + window - 1, x[:, None] - x[None] + window - 1
        self.register_buffer("positions", rows * (2 * window - 1) + columns, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B * n, window^2, C) to the same; `mask` (n, window^2, window^2) is added to the scores."""
        number, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(number, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.positions.flatten()].view(tokens, tokens, self.heads).permute(2, 0, 1)[None]
        if mask is not None:
            windows = mask.shape[0]
            bias = (bias + mask[:, None]).repeat(number // windows, 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        mixed: Tensor = self.out(out.transpose(1, 2).reshape(number, tokens, width))
        return mixed


class _Layer(nn.Module):
    """One transformer layer on windows, every second one with the windows moved by half."""

    def __init__(self, width: int, heads: int, window: int, moved: bool, expansion: int) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if moved else 0
        self.norm1, self.attention = nn.LayerNorm(width), _WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) whose sides are multiples of the window."""
        batch, height, width, channels = x.shape
        m = self.window
        y = self.norm1(x)
        mask = None
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
            mask = self._mask(height, width, x)
        y = y.view(batch, height // m, m, width // m, m, channels).transpose(2, 3).reshape(-1, m * m, channels)
        y = self.attention(y, mask)
        y = y.view(batch, height // m, width // m, m, m, channels).transpose(2, 3)
        y = y.reshape(batch, height, width, channels)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _mask(self, height: int, width: int, like: Tensor) -> Tensor:
        """Keeps pixels that the roll has brought together from opposite borders from seeing each other."""
        m = self.window
        rows = (torch.arange(height, device=like.device) >= height - self.shift).to(like.dtype)
        columns = (torch.arange(width, device=like.device) >= width - self.shift).to(like.dtype)
        part = (2 * rows[:, None] + columns[None, :]).view(height // m, m, width // m, m)
        part = part.transpose(1, 2).reshape(-1, m * m)
        return (part[:, None, :] != part[:, :, None]).to(like.dtype) * -100.0


class _Group(nn.Module):
    """Layers, a convolution and a skip."""

    def __init__(self, width: int, heads: int, window: int, depth: int, expansion: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(width, heads, window, bool(number % 2), expansion) for number in range(depth)
        )
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y)
        out: Tensor = x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out


class SwinIR(Body):
    """SwinIR-light: windowed attention at low resolution, one sub-pixel convolution at the end.

    Inside, the image is padded to whole windows by reflection.

    Args:
        scale: Factor.
        width: Channels.
        depths: Layers of each group.
        heads: Number of heads of the attention.
        window: Side of a window in pixels.
        expansion: Expansion factor of the MLP.
    """

    color, space, skip = "rgb", "low", False

    def __init__(
        self,
        scale: int,
        width: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_DIV2K_MEAN).view(1, 3, 1, 1))
        self.window = self.align = window
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.groups = nn.Sequential(*(_Group(width, heads, window, depth, expansion) for depth in depths))
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Sequential(nn.Conv2d(width, 3 * scale * scale, 3, padding=1), nn.PixelShuffle(scale))
        self.scale = scale
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = self.head(_filled(_filled(image - self.mean, -1, self.window), -2, self.window))
        y = self.norm_out(self.groups(self.norm_in(x.permute(0, 2, 3, 1))))
        out: Tensor = self.tail(x + self.conv(y.permute(0, 3, 1, 2))).float()
        return out[..., : height * self.scale, : width * self.scale] + self.mean


def _filled(image: Tensor, axis: int, window: int) -> Tensor:
    """Fills one side up to a multiple of the window with the reflected end, however short the image is."""
    length = image.shape[axis]
    place = torch.arange((length + window - 1) // window * window, device=image.device) % (2 * length)
    return image.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
