"""PSNR and SSIM by the papers' protocol, beside what bicubic reaches from the same low resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visionkit.families.restoration.bicubic import Bicubic
from visionkit.families.restoration.quality import psnr, quality, to_levels, to_y
from visionkit.uncertainty.by_image import SummedMetric

VALUES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "psnr_y_bicubic")


class ImageQuality(SummedMetric):
    """Means over images of `VALUES`; sums that add up over batches and processes.

    `psnr_y_bicubic` is what bicubic reaches from the same low resolution, to be read beside the network's.

    Args:
        scale: Also the border that is left out.
    """

    full_state_update = False
    higher_is_better = True

    sums: Tensor
    count: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale, self.bicubic = scale, Bicubic(scale)
        self.add_state("sums", torch.zeros(len(VALUES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, ours: Sequence[Tensor], truth: Sequence[Tensor], low_res: Sequence[Tensor], gray: Sequence[Any] = ()
    ) -> None:
        """Adds images.

        Args:
            ours: (3, H, W) float RGB each, on a scale of 255.
            truth: (3, H, W) uint8.
            low_res: (3, h, w) uint8 or float on a scale of 255.
            gray: Whether each is of a file with one channel; by default none is.

        Raises:
            DataError: An image is too small to be measured.
        """
        flags = [bool(flag) for flag in gray] or [False] * len(truth)
        for one, wanted, small, flag in zip(ours, truth, low_res, flags, strict=True):
            plain = self.bicubic(small[None].float())[0]
            values = quality(one, wanted, self.scale, flag, "an image")
            y = [to_y(to_levels(each.double())[..., self._inner, self._inner], flag) for each in (plain, wanted)]
            self.sums += torch.cat([values, psnr(*y)[None]]).to(self.sums)
            self.count += 1

    @property
    def _inner(self) -> slice:
        return slice(self.scale, -self.scale)

    def compute(self) -> dict[str, Tensor]:
        means = (self.sums / self.count.clamp(min=1)).float()
        return dict(zip(VALUES, means, strict=True))
