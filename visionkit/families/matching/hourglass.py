"""Stacked hourglasses of 3-D convolutions, which regularize a volume of costs (PSMNet, Chang and Chen, 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv3d(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3x3 convolution and its batch norm."""
    return nn.Sequential(
        nn.Conv3d(channels, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm3d(out),
    )


def deconv3d(channels: int, out: int) -> nn.Sequential:
    """A transposed 3x3x3 convolution that doubles every side, and its batch norm."""
    layer = nn.ConvTranspose3d(channels, out, 3, stride=2, padding=1, output_padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm3d(out))


class Hourglass(nn.Module):
    """Down to a quarter of every side and up again; its halves are joined with those of the hourglasses before it.

    Args:
        channels: Channels of the volume.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv1, self.conv2 = conv3d(channels, wide, stride=2), conv3d(wide, wide)
        self.conv3, self.conv4 = conv3d(wide, wide, stride=2), conv3d(wide, wide)
        self.conv5, self.conv6 = deconv3d(wide, wide), deconv3d(wide, channels)

    def forward(self, volume: Tensor, before: Tensor | None, after: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The volume, and its map at half the sides on the way down and on the way up.

        Args:
            volume: (B, C, D, h, w), all sides multiples of 4.
            before: Map on the way down of the first hourglass, None in itself.
            after: Map on the way up of the hourglass before this one, None in the first.
        """
        half = self.conv2(F.relu(self.conv1(volume)))
        half = F.relu(half if after is None else half + after)
        quarter = F.relu(self.conv4(F.relu(self.conv3(half))))
        up = F.relu(self.conv5(quarter) + (half if before is None else before))
        return self.conv6(up), half, up


class StackedHourglasses(nn.Module):
    """Costs of a concatenation volume: two residual blocks, and hourglasses that each refine the scores before.

    Args:
        seen: Channels of the volume that is given.
        channels: Channels inside.
        count: Number of hourglasses, at least 1.
    """

    def __init__(self, seen: int, channels: int = 32, count: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(conv3d(seen, channels), nn.ReLU(), conv3d(channels, channels), nn.ReLU())
        self.second = nn.Sequential(conv3d(channels, channels), nn.ReLU(), conv3d(channels, channels))
        self.hourglasses = nn.ModuleList(Hourglass(channels) for _ in range(count))
        self.heads = nn.ModuleList(
            nn.Sequential(
                *(conv3d(channels, channels), nn.ReLU(), nn.Conv3d(channels, 1, 3, padding=1, bias=False)),
            )
            for _ in range(count)
        )

    def forward(self, volume: Tensor) -> list[Tensor]:
        """(B, seen, D, h, w) to the scores (B, D, h, w) after every hourglass."""
        base = self.first(volume)
        base = self.second(base) + base
        out: Tensor = base
        before: Tensor | None = None
        after: Tensor | None = None
        scores: list[Tensor] = []
        for hourglass, head in zip(self.hourglasses, self.heads, strict=True):
            out, half, after = hourglass(out, before, after)
            before = half if before is None else before
            out = out + base
            score = head(out)[:, 0]
            scores.append(score if not scores else score + scores[-1])
        return scores
