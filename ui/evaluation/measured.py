"""What every type of evaluation hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visionkit.analysis.base import Analysis
from visionkit.analysis.collected import Ranked
from visionkit.report import PER_IMAGE
from visionkit.uncertainty.resampling import Intervals, Units

if TYPE_CHECKING:
    from visionkit.uncertainty.by_image import Resampler


class Resampled(NamedTuple):
    """What computes metrics of weighted images, and what is drawn.

    Attributes:
        parts: Each computes some of the metrics.
        units: What is drawn.
    """

    parts: Sequence[Resampler]
    units: Units

    @classmethod
    def of_images(cls, parts: Sequence[Resampler], count: int) -> Resampled:
        """That of `count` images, each of which is drawn by itself."""
        return cls(parts, Units.of([""] * count, [None] * count))


class RowMeans:
    """Means over images of their own values, of weighted images.

    Args:
        rows: One row per image.
        names: Columns; a row without one is left out of its mean.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
        self.values = {name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in names}

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, N) weights to (r,) values by name, NaN where there is nothing to measure."""
        out = {}
        for name, values in self.values.items():
            known = ~np.isnan(values)
            total = weights[:, known].sum(axis=1)
            mean = weights[:, known] @ values[known] / np.maximum(total, 1e-12)
            out[name] = np.where(total > 0, mean, np.nan)
        return out


@dataclass(frozen=True)
class Measured:
    """Metrics of predictions against ground truth.

    Attributes:
        metrics: Metrics by name.
        protocol: How they were measured, in one sentence.
        tables: Further rows, such as one per class.
        images: One row per image, for the results file.
        notes: What was passed over or assumed, one sentence each.
        analysis: What the errors are made of, where it was asked for.
        worst: The worst images, where there are pixels to be drawn on.
        resampled: Computes the metrics of images with weights, where the type has intervals.
    """

    metrics: Mapping[str, float]
    protocol: str
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    notes: Sequence[str] = ()
    analysis: Analysis | None = None
    worst: Sequence[Ranked] = ()
    resampled: Resampled | None = None

    def intervals(self, replicates: int, seed: int = 0) -> Intervals:
        """Bootstrap intervals of the metrics."""
        from visionkit.uncertainty.by_image import intervals_of

        assert self.resampled is not None
        named = {name: name for name in self.metrics}
        return intervals_of(self.resampled.parts, self.resampled.units, named, self.metrics, replicates, seed)

    def record(self, kind: str) -> dict[str, Any]:
        """In the form of `visionkit.report.results_record`, with the type of evaluation in place of the task."""
        tables = {**self.tables, **({PER_IMAGE: self.images} if self.images else {})}
        return {
            "kind": kind,
            "protocol": self.protocol,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "tables": tables,
            "notes": list(self.notes),
        }
