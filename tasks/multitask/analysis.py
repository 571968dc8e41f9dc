"""The analyses of every head as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import Analysis, Case, Row, Tables
from visionkit.run_report.charts import Chart
from visionkit.task import VisionTask


class HeadsAnalysis(Analysis):
    """Gives each head's analysis the images that have a label for it; columns and tables are named after the head.

    Images are not ranked, since the heads have units of their own.

    Args:
        tasks: Task of each head by name.
    """

    def __init__(self, tasks: Mapping[str, VisionTask]) -> None:
        super().__init__()
        self.heads = {name: task.analysis() for name, task in tasks.items()}
        self._numbers: dict[str, dict[int, int]] = {name: {} for name in tasks}

    def row(self, case: Case) -> Row:
        out: Row = {}
        parts: Any = case.prediction
        for name, target in case.target["heads"].items():
            if name not in parts:
                continue
            sample = case.sample
            if sample is not None:
                sample = sample.changed(target=sample.target.get("heads", {}).get(name, {}))
            self._numbers[name][len(self.rows)] = len(self.heads[name].rows)
            row = self.heads[name].add(Case(case.name, parts[name], target, sample, dict))
            out |= {f"{name}: {key}": value for key, value in row.items() if key != "image"}
        return out

    def values(self, images: np.ndarray) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, analysis in self.heads.items():
            known = self._numbers[name]
            own = np.array([known[int(k)] for k in images if int(k) in known], dtype=np.int64)
            if len(own):
                out |= {f"{name}: {key}": value for key, value in analysis.values(own).items()}
        return out

    def tables(self) -> Tables:
        return {
            f"{name}: {title}": rows
            for name, analysis in self.heads.items()
            for title, rows in analysis.tables().items()
        }

    def charts(self) -> dict[str, Chart]:
        return {
            f"{name}: {title}": chart
            for name, analysis in self.heads.items()
            for title, chart in analysis.charts().items()
        }

    def notes(self) -> Sequence[str]:
        return [f"{name}: {note}" for name, analysis in self.heads.items() for note in analysis.notes()]
