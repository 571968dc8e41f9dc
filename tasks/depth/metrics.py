"""The field's measures of depth: each image by itself, then the mean over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from tasks.depth.alignment import Alignment, least_squares, median_scale
from visionkit.geometry import Geometry

Crop = Literal["none", "eigen", "eigen_kitti", "garg"]

LEAST = 1e-3
"""Meters; what is nearer was not measured, and no prediction counts as nearer."""

CROPS: dict[str, tuple[float, float, float, float]] = {
    "none": (0.0, 0.0, 1.0, 1.0),
    # NYU Depth v2: rows 45 to 471 and columns 41 to 601 of 480 x 640 (Eigen et al., 2014).
    "eigen": (45 / 480, 41 / 640, 471 / 480, 601 / 640),
    "eigen_kitti": (0.3324324, 0.0359477, 0.91351351, 0.96405229),
    "garg": (0.40810811, 0.03594771, 0.99189189, 0.96405229),
}
"""Top, left, bottom, right as fractions of the file's height and width.

Cut to whole pixels as the papers' code does.
"""

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")


def crop_mask(geometry: Sequence[Geometry], size: tuple[int, int], crop: str) -> Tensor:
    """Which pixels of the network's input count.

    Args:
        geometry: Geometry of each image.
        size: Height and width of the batch.
        crop: One of `CROPS`, as fractions of the file.

    Returns:
        (B, h, w) bool: the pixels whose center lies inside the crop of the file.
    """
    masks = []
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    places = torch.stack([x, y], dim=-1).double()
    top, left, bottom, right = CROPS[crop]
    for each in geometry:
        height, width = each.source
        points = each.invert_points(places)
        low = torch.tensor([int(left * width), int(top * height)])
        high = torch.tensor([int(right * width), int(bottom * height)])
        masks.append(((points >= low) & (points < high)).all(dim=-1))
    return torch.stack(masks)


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


class DepthMeasures(Metric):
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
            self.total += measures(self._aligned(some, goal).clamp(LEAST, self.cap), goal)
            self.images += 1

    def _aligned(self, values: Tensor, truth: Tensor) -> Tensor:
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


def build_metrics(cap: float, alignment: Alignment, relative: bool) -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": DepthMeasures(cap, alignment, relative)})
