"""What two rectified images cost to match, disparity by disparity, and the disparity that a volume of costs states."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(right: Tensor, bins: int) -> Iterator[Tensor]:
    """Maps of the right image at the places of the left one, for disparities of 0, 1, 2, ... pixels of the map.

    Args:
        right: (B, C, h, w).
        bins: Number of disparities.

    Yields:
        Views of (B, C, h, w); 0 where the right image ends.
    """
    width = right.shape[-1]
    padded = F.pad(right, (bins - 1, 0))
    for shift in range(bins):
        yield padded[..., bins - 1 - shift : bins - 1 - shift + width]


def concatenation_volume(left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Features of both images side by side for every disparity (GC-Net, Kendall et al., 2017; PSMNet).

    Args:
        left: (B, C, h, w).
        right: (B, C, h, w).
        bins: Number of disparities, in pixels of these maps.

    Returns:
        (B, 2 C, bins, h, w); both halves are 0 where the right image does not show the place.
    """
    batch, channels, height, width = left.shape
    line = torch.arange(width, device=left.device)
    seen = line >= torch.arange(bins, device=left.device).view(-1, 1, 1)  # (bins, 1, w)
    if torch.compiler.is_exporting():  # a graph copies the whole tensor at every write into it
        return torch.cat([left[:, :, None] * seen, torch.stack(list(shifted(right, bins)), dim=2)], dim=1)
    volume = left.new_empty(batch, 2 * channels, bins, height, width)
    volume[:, :channels] = left[:, :, None]
    volume[:, :channels].mul_(seen)
    for shift, moved in enumerate(shifted(right, bins)):
        volume[:, channels:, shift] = moved
    return volume


def correlation_volume(left: Tensor, right: Tensor, bins: int) -> Tensor:
    """Scalar product of the features of both images for every disparity, (B, bins, h, w); 0 beside the right image."""
    return torch.stack([(left * moved).sum(dim=1) for moved in shifted(right, bins)], dim=1)


def soft_argmin(scores: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """The mean disparity under the softmax of scores at full resolution (Kendall et al., 2017).

    Scores are enlarged linearly, at first along the disparity, where the score of `stride * k` pixels is that of bin k,
    and then along both sides: a trilinear enlargement without a tensor of five dimensions.

    Args:
        scores: (B, bins, h, w), larger is more likely.
        stride: Pixels of the image that one bin and one pixel of the map stand for.
        size: Height and width of the image.

    Returns:
        (B, H, W) float32 pixels of the image, from 0 to stride * bins - 1.
    """
    bins = scores.shape[1]
    disparity = torch.arange(bins * stride, dtype=torch.float32, device=scores.device)
    place = (disparity / stride).clamp(max=bins - 1)
    weights = (1 - (place[:, None] - torch.arange(bins, device=scores.device)).abs()).clamp(min=0)
    fine = torch.einsum("db,nbhw->ndhw", weights, scores.float())
    fine = F.interpolate(fine, size=size, mode="bilinear", align_corners=False)
    return torch.einsum("ndhw,d->nhw", fine.softmax(dim=1), disparity)
