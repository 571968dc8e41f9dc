"""What is minimized without labels: how unlike a frame is to its neighbors, seen from its own place."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.camera_motion.network import MotionOutputs, to_others
from visionkit.families.matching.reprojection import reprojected
from visionkit.families.matching.warp import sample

NeighborRule = Literal["best", "mean"]

_C1, _C2 = 0.01**2, 0.03**2


class PhotometricLoss(nn.Module):
    """Photometric reprojection error and smoothness (Zhou et al., 2017; Godard et al., 2019).

    With `neighbors="best"` a pixel counts by the neighbor that explains it best, since others may not show it, and with
    `auto_mask` only where moving the neighbor explains it better than leaving it as it is: what moves with the camera,
    and all of a clip that stands still, is left out. Both hide a wrong motion from the loss, as long as another one is
    right or the image is hardly better explained without any; so networks that begin with no idea of motion learn it
    faster with `"mean"` and without the mask, as in Zhou et al. The terms are computed at full size and at halves of
    it, which carries gradients across areas without texture.

    Args:
        ssim: Weight of structure against absolute differences, 0 to 1.
        smoothness: Weight of the depth's smoothness where the image is smooth.
        scales: Number of sizes, each half of the one before.
        auto_mask: Leave out pixels that a neighbor as it is explains better.
        neighbors: `best`, the neighbor that explains a pixel best, or the `mean` of those that show its place.
    """

    def __init__(
        self,
        ssim: float = 0.85,
        smoothness: float = 1e-3,
        scales: int = 4,
        auto_mask: bool = True,
        neighbors: NeighborRule = "best",
    ) -> None:
        super().__init__()
        self.ssim, self.smoothness, self.scales = ssim, smoothness, scales
        self.auto_mask, self.neighbors = auto_mask, neighbors

    def forward(self, outputs: MotionOutputs, frames: Tensor, intrinsics: Tensor) -> dict[str, Tensor]:
        """The terms, weighted.

        Args:
            outputs: Depth and motions.
            frames: (B, T, C, h, w) float in [0, 1].
            intrinsics: (B, 4) fx, fy, cx, cy in pixels.
        """
        depth, shown = outputs.depth, outputs.shown
        others = [frames[:, k] for k in range(frames.shape[1]) if k != shown]
        own, ways = frames[:, shown], to_others(outputs.motions, shown)
        unlike, rough = [], []
        for scale in range(self.scales):
            if min(depth.shape[-2:]) < 3:
                break
            factor = 0.5**scale
            unlike.append(self._unlike(own, others, depth, ways, intrinsics * factor))
            rough.append(roughness(depth, own) * factor)
            own, others = F.avg_pool2d(own, 2), [F.avg_pool2d(each, 2) for each in others]
            depth = F.avg_pool2d(depth[:, None], 2)[:, 0]
        return {
            "photometric": torch.stack(unlike).mean(),
            "smoothness": self.smoothness * torch.stack(rough).mean(),
        }

    def _unlike(
        self, own: Tensor, others: list[Tensor], depth: Tensor, ways: list[Tensor], intrinsics: Tensor
    ) -> Tensor:
        moved, inside = [], []
        for other, way in zip(others, ways, strict=True):
            places, is_inside = reprojected(depth, way, intrinsics)
            x, y = (places - 0.5).unbind(-1)  # `sample` counts from the center of the first pixel
            moved.append(sample(other, x, y, padding="border"))
            inside.append(is_inside)
        errors = unlikeness(torch.stack(moved), own, self.ssim)
        errors = torch.where(torch.stack(inside), errors, torch.inf)
        if self.neighbors == "best":
            errors = errors.amin(0, keepdim=True)
        if self.auto_mask:
            # The mean is over all pixels: one over those that count alone would fall where fewer of them do.
            still = unlikeness(torch.stack(others), own, self.ssim)
            return torch.minimum(errors, still.amin(0, keepdim=True) if self.neighbors == "best" else still).mean()
        counts = errors < torch.inf
        return torch.where(counts, errors, 0.0).sum() / counts.sum().clamp(min=1)


def unlikeness(others: Tensor, own: Tensor, ssim: float) -> Tensor:
    """How far images are from one: absolute differences, and structure over 3x3 pixels (SSIM, Wang et al., 2004).

    Args:
        others: (N, B, C, h, w) float in [0, 1].
        own: (B, C, h, w) float in [0, 1].
        ssim: Weight of structure, 0 to 1.

    Returns:
        (N, B, h, w), about 0 to 1.
    """
    error = (1 - ssim) * (others - own).abs().mean(2)
    if not ssim:
        return error
    images = torch.cat([own[None], others])
    images = F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="reflect").unflatten(0, images.shape[:2])
    mean = _window_means(images)
    spread = _window_means(images * images) - mean**2
    common = _window_means(images[:1] * images[1:]) - mean[:1] * mean[1:]
    top = (2 * mean[:1] * mean[1:] + _C1) * (2 * common + _C2)
    bottom = (mean[:1] ** 2 + mean[1:] ** 2 + _C1) * (spread[:1] + spread[1:] + _C2)
    return error + ssim * ((1 - top / bottom) / 2).clamp(0, 1).mean(2)


def _window_means(values: Tensor) -> Tensor:
    """Means over 3x3 pixels of (N, B, C, h, w)."""
    # Sums take half the time of average pooling on CPUs, and no convolution rounds the squares to TF32 on GPUs.
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def roughness(depth: Tensor, image: Tensor) -> Tensor:
    """Differences of the inverse depth between neighbors, less where the image has an edge; its mean does not matter.

    Args:
        depth: (B, h, w) above 0.
        image: (B, C, h, w) float in [0, 1].
    """
    inverse = 1 / depth
    inverse = (inverse / inverse.mean((1, 2), keepdim=True))[:, None]
    total = depth.new_zeros(())
    for axis in (2, 3):
        step, edge = inverse.diff(dim=axis).abs(), image.diff(dim=axis).abs().mean(1, keepdim=True)
        total = total + (step * (-edge).exp()).mean()
    return total
