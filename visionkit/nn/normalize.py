"""The first layer of every network: uint8 pixels to normalized floats, inside the graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Turns pixels of 0 to 255 into `(pixel / 255 - mean) / std`.

    The numbers belong to the weights (timm's `pretrained_cfg`), so they lie in buffers and travel in the checkpoint
    and in the exported graph; a datamodule could not know them.

    Args:
        mean: Per channel, for pixels in [0, 1].
        std: Per channel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        m, s = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
        # One multiply and one add instead of a division, a subtraction and a division.
        self.register_buffer("scale", (1.0 / (255.0 * s)).view(1, -1, 1, 1))
        self.register_buffer("shift", (-m / s).view(1, -1, 1, 1))

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, for pixels in [0, 1]."""
        return tuple((-self.shift / (self.scale * 255.0)).flatten().tolist())

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel, for pixels in [0, 1]."""
        return tuple((1.0 / (self.scale * 255.0)).flatten().tolist())

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float of the same range, to float."""
        return image.to(self.scale.dtype) * self.scale + self.shift

    def undone(self, image: Tensor) -> Tensor:
        """(..., C, H, W) normalized images to pixels in [0, 1]."""
        return (image - self.shift[0]) / (255.0 * self.scale[0])


class Standardizing(nn.Module):
    """Base of modules whose backbone expects a mean and a deviation, within a network of images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def expect(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Keeps what the backbone expects.

        Args:
            mean: Per channel, for pixels in [0, 1].
            std: Per channel.
        """
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def standardized(self, image: Tensor) -> Tensor:
        """(B, C, H, W) float in [0, 1] to what the backbone expects."""
        return (image - self.mean) / self.std
