"""The field's measures of optical flow, over all known pixels of a split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from visionkit.families.matching.pixel_errors import PixelErrors
from visionkit.geometry import Geometry


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


class FlowMeasures(PixelErrors):
    """End-point error, outliers above 1, 3 and 5 px, and Fl-all over all known pixels, see `PixelErrors`."""

    limits = (1, 3, 5)
    outliers = "fl_all"


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": FlowMeasures()})
