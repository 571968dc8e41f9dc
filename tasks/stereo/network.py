"""A network that matches features at a quarter of the image's sides in a 4-D cost volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.stereo.architecture import StereoOutputs
from visionkit.errors import UsageError
from visionkit.families.matching.cost_volume import concatenation_volume, soft_argmin
from visionkit.families.matching.hourglass import StackedHourglasses

STRIDE = 4
"""Pixels of the image that a pixel of the features stands for."""


class CostVolumeNetwork(nn.Module):
    """Features of both images, their concatenation for every disparity, and 3-D convolutions that score it.

    Args:
        features: Takes (B, 3, h, w) RGB in [0, 1] and gives (B, seen, h / 4, w / 4).
        seen: Channels of the features.
        channels: Channels of the volume.
        hourglasses: Number of stacked hourglasses.
        max_disparity: Number of disparities, in pixels of the image.

    Raises:
        UsageError: The number of disparities is no multiple of 16.
    """

    def __init__(self, features: nn.Module, seen: int, channels: int, hourglasses: int, max_disparity: int) -> None:
        super().__init__()
        if max_disparity < 16 or max_disparity % 16:
            raise UsageError(f"model: max_disparity {max_disparity}: allowed are multiples of 16, from 16 on")
        self.features, self.bins = features, max_disparity // STRIDE
        self.volume = StackedHourglasses(2 * seen, channels, hourglasses)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, left: Tensor, right: Tensor) -> StereoOutputs:
        """(B, 3, h, w) float RGB in [0, 1] each, both sides multiples of 16."""
        maps, batch = self.features(torch.cat([left, right])), left.shape[0]
        ours, theirs = maps[:batch], maps[batch:]
        scores = self.volume(concatenation_volume(ours, theirs, self.bins))
        size = (left.shape[-2], left.shape[-1])
        shown = scores if self.training else scores[-1:]
        *earlier, last = (soft_argmin(each, STRIDE, size) for each in shown)
        return StereoOutputs(last, tuple(earlier))
