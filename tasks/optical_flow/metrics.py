"""The field's measures of optical flow, over all known pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from visionkit.geometry import Geometry

BAD = (1, 3, 5)
"""Errors over so many pixels are counted as outliers."""

FL_PIXELS, FL_FRACTION = 3.0, 0.05
"""Of KITTI's Fl: an outlier is off by more than both, pixels and the fraction of the true length."""

NAMES = ("epe", *(f"bad{limit}" for limit in BAD), "fl_all")
PARTS = ("", "_visible", "_occluded")


def error_vectors(values: Tensor, truth: Tensor, geometry: Sequence[Geometry]) -> tuple[Tensor, Tensor]:
    """Lengths of the errors and of the true motion, in file pixels.

    Args:
        values: (B, 2, h, w) in input pixels.
        truth: (B, 2, h, w) in input pixels.
        geometry: Geometry of each pair.

    Returns:
        (B, h, w) float64 each.
    """
    rows = [torch.from_numpy(way.matrix[:, :2]).inverse() for way in geometry]
    linear = torch.stack(rows).to(values.device)
    both = torch.stack([values.double() - truth.double(), truth.double()])
    lengths = torch.einsum("bij,sbjhw->sbihw", linear, both).square().sum(dim=2).sqrt()
    return lengths[0], lengths[1]


class FlowMeasures(Metric):
    """End-point error and fractions of outliers, pooled over all known pixels of all pairs.

    `epe` is the mean error in pixels of the file; `bad1`, `bad3` and `bad5` are the fractions of pixels whose error is
    above so many pixels, and `fl_all` of those that are off by more than 3 px and by more than 5 % of the true length.
    Where the data states what is occluded, the same of visible and of occluded pixels alone: `epe_visible`,
    `fl_all_occluded`, ... Without any known pixel all are 0, not NaN.
    """

    full_state_update = False

    totals: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(len(PARTS), len(NAMES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(len(PARTS), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, error: Tensor, length: Tensor, valid: Tensor, occluded: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            error: (B, h, w) lengths of the errors in file pixels.
            length: (B, h, w) lengths of the true motion in file pixels.
            valid: (B, h, w) bool, where it is known.
            occluded: (B, h, w) bool, what the second image does not show; None where that is not known.
        """
        wrong = [error > limit for limit in BAD]
        values = torch.stack([error, *wrong, (error > FL_PIXELS) & (error > FL_FRACTION * length)]).double()
        parts = [valid] if occluded is None else [valid, valid & ~occluded, valid & occluded]
        for row, part in enumerate(parts):
            self.totals[row] += torch.where(part, values, 0).flatten(1).sum(dim=1)
            self.pixels[row] += part.sum()

    def compute(self) -> dict[str, Tensor]:
        means = (self.totals / self.pixels.clamp(min=1)[:, None]).float()
        rows = [row for row in range(len(PARTS)) if row == 0 or int(self.pixels[row])]
        return {f"{name}{PARTS[row]}": means[row, column] for row in rows for column, name in enumerate(NAMES)}


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": FlowMeasures()})
