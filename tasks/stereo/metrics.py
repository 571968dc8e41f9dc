"""The field's measures of disparity, over all measured pixels, in file pixels."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MetricCollection

from visionkit.families.matching.pixel_errors import PixelErrors


class DisparityMeasures(PixelErrors):
    """EPE, bad-1, bad-2, bad-3 and D1-all over all measured pixels of all images, see `PixelErrors`."""

    limits = (1, 2, 3)
    outliers = "d1"

    def update(self, disparity: Tensor, truth: Tensor, known: Tensor, occluded: Tensor | None = None) -> None:
        """Adds a batch, or one image.

        Args:
            disparity: (..., h, w) pixels of the file.
            truth: (..., h, w) pixels of the file.
            known: (..., h, w) bool, where it was measured.
            occluded: (..., h, w) bool, where the right image does not show the point; None where it is not known.
        """
        real = truth.double()
        super().update((disparity.double() - real).abs(), real, known, occluded)


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": DisparityMeasures()})
