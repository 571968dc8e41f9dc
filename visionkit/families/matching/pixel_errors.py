"""The field's measures of optical flow and stereo, over all known pixels of a split."""

from __future__ import annotations

from typing import ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from visionkit.uncertainty.by_image import SummedMetric

PIXELS, FRACTION = 3.0, 0.05
"""Of KITTI's Fl and D1: an outlier is off by more than both, pixels and the fraction of the truth."""

PARTS = ("", "_visible", "_occluded")
"""Of all known pixels, of those that the other image shows, and of those that it does not."""

Values = TypeVar("Values", Tensor, np.ndarray)


def is_outlier(error: Values, size: Values) -> Values:
    """Which errors count for KITTI's Fl and D1 (Menze and Geiger, 2015), in any shape.

    Args:
        error: Absolute errors in pixels.
        size: Length of the true motion, or the true disparity, in pixels.
    """
    return (error > PIXELS) & (error > FRACTION * size)


class PixelErrors(SummedMetric):
    """The mean error and fractions of outliers, pooled over all known pixels of all pairs.

    `epe` is the mean error in pixels of the file, `bad1` and so on are the fractions of pixels whose error is above
    each of `limits`, and `outliers` names the fraction that `is_outlier`. Where the data states what is occluded, the
    same of visible and of occluded pixels alone: `epe_visible`, ... Without any known pixel all are 0, not NaN.

    Attributes:
        limits: Pixels of error.
        outliers: What the task calls the fraction of outliers.
    """

    full_state_update = False

    limits: ClassVar[tuple[int, ...]]
    outliers: ClassVar[str]

    totals: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        totals = torch.zeros(len(PARTS), len(self.names), dtype=torch.float64)
        self.add_state("totals", totals, dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(len(PARTS), dtype=torch.long), dist_reduce_fx="sum")

    @property
    def names(self) -> tuple[str, ...]:
        """The measures in their order."""
        return ("epe", *(f"bad{limit}" for limit in self.limits), self.outliers)

    def update(self, error: Tensor, size: Tensor, known: Tensor, occluded: Tensor | None = None) -> None:
        """Adds a batch, or one image.

        Args:
            error: (..., h, w) absolute errors in file pixels.
            size: (..., h, w) length of the true motion, or the true disparity, in file pixels.
            known: (..., h, w) bool, where the truth is known.
            occluded: (..., h, w) bool, what the other image does not show; None where that is not known.
        """
        wrong = [error > limit for limit in self.limits]
        values = torch.stack([each.double() for each in (error, *wrong, is_outlier(error, size))])
        parts = [known] if occluded is None else [known, known & ~occluded, known & occluded]
        for row, part in enumerate(parts):
            self.totals[row] += torch.where(part, values, 0).flatten(1).sum(dim=1)
            self.pixels[row] += part.sum()

    def compute(self) -> dict[str, Tensor]:
        means = (self.totals / self.pixels.clamp(min=1)[:, None]).float()
        rows = [row for row in range(len(PARTS)) if row == 0 or int(self.pixels[row])]
        return {f"{name}{PARTS[row]}": means[row, column] for row in rows for column, name in enumerate(self.names)}
