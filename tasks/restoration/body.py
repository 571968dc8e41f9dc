"""What every network of restoration states about itself: its further input, and the sides that it takes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Condition = Literal["mask", "noise_level"]


class Body(nn.Module):
    """The learned part of a network.

    Attributes:
        condition: Name of its further input, or None. A `mask` is 1 where pixels are missing and 0 elsewhere; a
            `noise_level` is the standard deviation of the noise, of an image in [0, 1].
        divisor: Both sides of its input are multiples of it.
    """

    condition: Condition | None = None
    divisor: int = 1

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """Restores images.

        Args:
            image: (B, C, h, w) float, about [0, 1].
            condition: (B, 1, h, w) float.

        Returns:
            (B, C, h, w) float, about [0, 1].
        """
        raise NotImplementedError

    def scales(self, image: Tensor, condition: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The restored image, and for the loss alone the same at coarser scales; by default there are none."""
        return self(image, condition), ()

    @staticmethod
    def given(image: Tensor, condition: Tensor | None) -> Tensor:
        """The condition; where there is none, that of an image without noise or holes, which is 0."""
        return image.new_zeros(image[:, :1].shape) if condition is None else condition
