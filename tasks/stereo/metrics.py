"""The field's measures of disparity, over all measured pixels, in file pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

BAD = (1.0, 2.0, 3.0)
"""Pixels of error above which a disparity is wrong, by threshold."""

NAMES = ("epe", "bad1", "bad2", "bad3", "d1")

PARTS = ("", "_visible", "_occluded")
"""Of all measured pixels, of those that the right image shows, and of those that it does not."""


def sums(error: Tensor, truth: Tensor) -> Tensor:
    """Sum of the error, number of pixels above 1, 2 and 3 px, and above both 3 px and 5 % of the truth (KITTI's D1).

    Args:
        error: (n,) float64, absolute error in pixels.
        truth: (n,) float64, disparity in pixels.

    Returns:
        (5,) float64 in the order of `NAMES`.
    """
    wrong = [(error > limit).sum() for limit in BAD]
    both = ((error > 3.0) & (error > 0.05 * truth)).sum()
    return torch.stack([error.sum(), *(each.to(error) for each in (*wrong, both))])


class DisparityMeasures(Metric):
    """EPE, bad-1, bad-2, bad-3 and D1-all over all measured pixels of all images.

    Where the data states which pixels are occluded, the same of visible and of occluded pixels alone:
    `epe_visible`, `d1_occluded`, ... Without any measured pixel all are 0, not NaN.
    """

    full_state_update = False

    totals: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(len(PARTS), len(NAMES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(len(PARTS), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, disparity: Tensor, truth: Tensor, known: Tensor, occluded: Tensor | None = None) -> None:
        """Adds a batch, or one image.

        Args:
            disparity: (..., h, w) pixels of the file.
            truth: (..., h, w) pixels of the file.
            known: (..., h, w) bool, where it was measured.
            occluded: (..., h, w) bool, where the right image does not show the point; None where it is not known.
        """
        parts = [known] if occluded is None else [known, known & ~occluded, known & occluded]
        for row, part in enumerate(parts):
            real = truth[part].double()
            self.totals[row] += sums((disparity[part].double() - real).abs(), real)
            self.pixels[row] += part.sum()

    def compute(self) -> dict[str, Tensor]:
        means = (self.totals / self.pixels.clamp(min=1)[:, None]).float()
        rows = [row for row in range(len(PARTS)) if row == 0 or int(self.pixels[row])]
        return {f"{name}{PARTS[row]}": means[row, column] for row in rows for column, name in enumerate(NAMES)}


def build_metrics() -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": DisparityMeasures()})
