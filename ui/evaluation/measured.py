"""What every type of evaluation hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visionkit.analysis.base import Analysis
from visionkit.analysis.collected import Ranked
from visionkit.report import PER_IMAGE


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
    """

    metrics: Mapping[str, float]
    protocol: str
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    notes: Sequence[str] = ()
    analysis: Analysis | None = None
    worst: Sequence[Ranked] = ()

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
