"""The field's measures of optical flow, over all known pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from visionkit.geometry import Geometry

PIXELS = (1, 3, 5)
"""Errors over so many pixels are counted as outliers."""

FL_PIXELS, FL_FRACTION = 3.0, 0.05
"""Of KITTI's Fl: an outlier is off by more than both, pixels and the fraction of the true length."""


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
    """End-point error and fractions of outliers, pooled over all known pixels.

    `epe` is the mean error in pixels of the file; `fl_all` the fraction of pixels that are off by more than 3 px and
    by more than 5 % of the true length; `over_1px`, `over_3px` and `over_5px` the fractions beyond those errors. Where
    the truth states what is occluded, `epe_occluded` and `epe_visible` are the errors of both parts.
    """

    full_state_update = False

    sums: Tensor
    parts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Known pixels, errors, outliers of Fl, and those beyond each of PIXELS.
        self.add_state("sums", torch.zeros(3 + len(PIXELS), dtype=torch.float64), dist_reduce_fx="sum")
        # Of occluded and of visible pixels: number and errors.
        self.add_state("parts", torch.zeros(2, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, error: Tensor, length: Tensor, valid: Tensor, occluded: Tensor | None = None) -> None:
        """Adds a batch.

        Args:
            error: (B, h, w) lengths of the errors in file pixels.
            length: (B, h, w) lengths of the true motion in file pixels.
            valid: (B, h, w) bool, where it is known.
            occluded: (B, h, w) bool, what the second image does not show; None where that is not known.
        """
        found, real = error[valid].double(), length[valid].double()
        outliers = (found > FL_PIXELS) & (found > FL_FRACTION * real)
        counted = [(found > limit).sum() for limit in PIXELS]
        self.sums += torch.stack([torch.as_tensor(len(found)).to(found), found.sum(), outliers.sum(), *counted])
        if occluded is not None:
            hidden = occluded[valid]
            rows = [torch.stack([part.sum(), found[part].sum()]) for part in (hidden, ~hidden)]
            self.parts += torch.stack(rows).to(self.parts)

    def compute(self) -> dict[str, Tensor]:
        count = self.sums[0].clamp(min=1)
        names = ("epe", "fl_all", *(f"over_{limit}px" for limit in PIXELS))
        out = {name: (value / count).float() for name, value in zip(names, self.sums[1:], strict=True)}
        if bool(self.parts[0, 0] > 0):  # with nothing occluded, both are one
            number, total = self.parts.T
            means = (total / number.clamp(min=1)).float()
            out |= {"epe_occluded": means[0], "epe_visible": means[1]}
        return out


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": FlowMeasures()})
