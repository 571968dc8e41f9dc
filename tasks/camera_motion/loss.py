"""What is minimized without labels: how unlike a frame is to its neighbors, seen from its own place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.camera_motion.network import MotionOutputs, to_others
from visionkit.families.matching.reprojection import reprojected
from visionkit.families.matching.warp import sample

_C1, _C2 = 0.01**2, 0.03**2


class PhotometricLoss(nn.Module):
    """Photometric reprojection error and smoothness (Zhou et al., 2017; Godard et al., 2019).

    A pixel counts by the neighbor that explains it best, since others may not show it, and only where moving the
    neighbor explains it better than leaving it as it is: what moves with the camera, and all of a clip that stands
    still, is left out. The terms are computed at full size and at halves of it, which carries gradients across areas
    without texture.

    Args:
        ssim: Weight of structure against absolute differences, 0 to 1.
        smoothness: Weight of the depth's smoothness where the image is smooth.
        scales: Number of sizes, each half of the one before.
        auto_mask: Leave out pixels that a neighbor as it is explains better.
    """

    def __init__(self, ssim: float = 0.85, smoothness: float = 1e-3, scales: int = 4, auto_mask: bool = True) -> None:
        super().__init__()
        self.ssim, self.smoothness, self.scales, self.auto_mask = ssim, smoothness, scales, auto_mask

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
        errors = []
        for other, way in zip(others, ways, strict=True):
            places, is_inside = reprojected(depth, way, intrinsics)
            x, y = (places - 0.5).unbind(-1)  # `sample` counts from the center of the first pixel
            error = unlikeness(sample(other, x, y, padding="border"), own, self.ssim)
            errors.append(torch.where(is_inside, error, torch.inf))
        best = torch.stack(errors).amin(0)
        if self.auto_mask:
            # The mean is over all pixels: one over those that count alone would fall where fewer of them do.
            still = torch.stack([unlikeness(other, own, self.ssim) for other in others]).amin(0)
            return torch.minimum(best, still).mean()
        counts = best < torch.inf
        return torch.where(counts, best, 0.0).sum() / counts.sum().clamp(min=1)


def unlikeness(one: Tensor, other: Tensor, ssim: float) -> Tensor:
    """How far two images are apart at every pixel: absolute differences, and structure over 3x3 pixels.

    Args:
        one: (B, C, h, w) float in [0, 1].
        other: The same.
        ssim: Weight of structure, 0 to 1.

    Returns:
        (B, h, w), about 0 to 1.
    """
    error = (1 - ssim) * (one - other).abs().mean(1)
    if not ssim:
        return error
    x, y = F.pad(one, (1, 1, 1, 1), mode="reflect"), F.pad(other, (1, 1, 1, 1), mode="reflect")

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 3, 1)

    mean_x, mean_y = mean(x), mean(y)
    spread_x, spread_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    common = mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * common + _C2)
    bottom = (mean_x**2 + mean_y**2 + _C1) * (spread_x + spread_y + _C2)
    return error + ssim * ((1 - top / bottom) / 2).clamp(0, 1).mean(1)


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
