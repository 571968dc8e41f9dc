"""The field's measures of depth: each image by itself, then the mean over images."""

from __future__ import annotations

import torch
from torch import Tensor

from visionkit.families.dense.depth_alignment import Alignment, least_squares, median_scale
from visionkit.uncertainty.by_image import SummedMetric

LEAST = 1e-3
"""Meters; what is nearer was not measured, and no prediction counts as nearer."""

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")


def measures(depth: Tensor, truth: Tensor) -> Tensor:
    """The nine measures of one image, in the order of `NAMES`.

    Args:
        depth: (n,) float64 meters, above 0.
        truth: (n,) float64 meters, above 0; n at least 1.

    Returns:
        (9,) float64: AbsRel, SqRel (meters), RMSE (meters), RMSE of the natural logarithm, mean |log10|, SILog (times
        100), and the fractions of pixels within a factor of 1.25, 1.25^2 and 1.25^3.
    """
    error, ratio = depth - truth, torch.maximum(depth / truth, truth / depth)
    g = depth.log() - truth.log()
    return torch.stack(
        [
            (error.abs() / truth).mean(),
            (error.square() / truth).mean(),
            error.square().mean().sqrt(),
            g.square().mean().sqrt(),
            (depth.log10() - truth.log10()).abs().mean(),
            # Rounding takes a spread of nothing below zero, and its root would be NaN.
            100 * (g.square().mean() - g.mean().square()).clamp(min=0).sqrt(),
            *((ratio < 1.25**power).double().mean() for power in (1, 2, 3)),
        ]
    )


class DepthMeasures(SummedMetric):
    """AbsRel, SqRel, RMSE, RMSE-log, log10, SILog and delta 1 to 3, the mean of per-image values.

    `compute` also gives `unmeasured`: images without a valid pixel, which count in none of them, and `beyond`: the
    fraction of measured pixels that are farther than `cap`, which count in none either. Without any image all are 0,
    not NaN.

    Args:
        cap: Meters; farther truth does not count, and predictions are cut to it.
        alignment: `none`; `median` scales by the ratio of medians; `least_squares` by scale and shift: of depth, or of
            inverse depth for relative predictions.
        relative: Predictions are inverse depth up to a scale and a shift.
    """

    full_state_update = False

    total: Tensor
    images: Tensor
    skipped: Tensor
    pixels: Tensor

    def __init__(self, cap: float = 10.0, alignment: Alignment = "none", relative: bool = False) -> None:
        super().__init__()
        self.cap, self.alignment, self.relative = cap, alignment, relative
        self.add_state("total", torch.zeros(len(NAMES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")  # beyond the cap, measured

    def update(self, values: Tensor, truth: Tensor, mask: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            values: (B, h, w) meters; inverse depth where `relative`.
            truth: (B, h, w) meters; 0 is not measured.
            mask: (B, h, w) bool, pixels that count, or None for all.
        """
        known = (truth > LEAST) & (truth <= self.cap)
        self.pixels += torch.stack([(truth > self.cap).sum(), (truth > LEAST).sum()])
        if mask is not None:
            known &= mask
        for ours, real, there in zip(values, truth, known, strict=True):
            some, goal = ours[there].double(), real[there].double()
            if len(goal) == 0:
                self.skipped += 1
                continue
            self.total += measures(self.aligned(some, goal).clamp(LEAST, self.cap), goal)
            self.images += 1

    def aligned(self, values: Tensor, truth: Tensor) -> Tensor:
        """Values of one image, brought to the truth as the protocol has it.

        Args:
            values: (n,) meters, or inverse depth where `relative`.
            truth: (n,) meters.
        """
        if self.alignment == "none":
            return values
        if self.alignment == "median":
            return values * median_scale(values, truth)
        goal = 1 / truth if self.relative else truth
        everywhere = torch.ones_like(goal, dtype=torch.bool)[None, None]
        scale, shift = least_squares(values[None, None], goal[None, None], everywhere)
        fitted = values * scale + shift
        return 1 / fitted.clamp(min=1 / self.cap) if self.relative else fitted

    def compute(self) -> dict[str, Tensor]:
        means = (self.total / self.images.clamp(min=1)).float()
        beyond = (self.pixels[0] / self.pixels[1].clamp(min=1)).float()
        return {**dict(zip(NAMES, means, strict=True)), "unmeasured": self.skipped.float(), "beyond": beyond}
