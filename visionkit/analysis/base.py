"""What an analysis is given of each image, and what it states in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions import Prediction

if TYPE_CHECKING:
    from visionkit.run_report.charts import Chart
    from visionkit.types import Sample

Value = str | float | int | bool
Row = dict[str, Value]
Tables = dict[str, list[dict[str, Any]]]

LISTED = 50
"""Rows of a table of single errors."""


@dataclass(frozen=True, eq=False)
class Case:
    """One image of a split.

    Attributes:
        name: Name of the image, as the data has it.
        prediction: What is served of it, in file pixels.
        target: What the batch held of it, see `visionkit.types.Target`: in input pixels, `file_...` in file pixels.
        sample: The sample, whose target is in file pixels; None where the data set does not hold samples.
        measure: Gives the task's own metrics of this image alone.
    """

    name: str
    prediction: Prediction
    target: Mapping[str, Any]
    sample: Sample | None
    measure: Callable[[], dict[str, float]]

    @property
    def known(self) -> Mapping[str, Any]:
        """The target in file pixels where there is one, otherwise that of the batch."""
        return self.target if self.sample is None else self.sample.target

    @property
    def truth(self) -> Prediction | None:
        """The ground truth in the form of the prediction."""
        return self.prediction.truth(self.known)


class Analysis:
    """Collects what is known of each image; this one serves every task, others add what their errors are made of.

    A subclass overrides `row`, and keeps in it whatever its `tables` need.

    Args:
        monitor: The metric that chooses a checkpoint, and "min" or "max": by it images are ranked.

    Attributes:
        rows: What `add` gave for each image, in order.
        draws_images: It has images of its own to be drawn, see `shown_together`.
        facts: What is known of images by their name, where the analysis itself knows it.
    """

    draws_images: ClassVar[bool] = False

    def __init__(self, monitor: tuple[str, str] = ("", "max")) -> None:
        self.monitor = monitor
        self.rows: list[Row] = []
        self.facts: dict[str, dict[str, str | float]] = {}

    def add(self, case: Case) -> Row:
        """Takes an image; gives its row of the table of images."""
        row: Row = {"image": case.name, **self.row(case)}
        self.rows.append(row)
        return row

    def row(self, case: Case) -> Row:
        """What the table of images states about one: by default its metrics, and what its prediction states."""
        return {**case.prediction.row(case.truth), **case.measure()}

    def badness(self, row: Mapping[str, Any]) -> float | None:
        """How bad an image is, to rank them: the higher, the worse. None where that is not known.

        Args:
            row: What `add` gave.
        """
        metric, mode = self.monitor
        value = row.get(metric.rpartition("/")[2])
        if not isinstance(value, (int, float)) or not np.isfinite(value) or value == -1:
            return None
        return float(value) if mode == "min" else -float(value)

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        """The score of what is wrong on an image; None where nothing is, or where the task states no scores."""
        return None

    def values(self, images: np.ndarray) -> dict[str, float]:
        """What is measured over some of the images: by default the means of the numbers in their rows.

        Args:
            images: (n,) int64 numbers of images, in the order in which they were added.
        """
        return mean_values([self.rows[int(number)] for number in images])

    def finish(self) -> None:
        """Called once all images were added; rows may be completed here. By default nothing."""

    def shown_together(self) -> list[tuple[list[int], str]]:
        """Numbers of images to be drawn side by side, each group with a caption; by default none."""
        return []

    def tables(self) -> Tables:
        """What the errors are made of, by title, beside the tables of the task's own metrics; by default none."""
        return {}

    def charts(self) -> dict[str, Chart]:
        """How these tables are drawn, by title."""
        return {}

    def notes(self) -> Sequence[str]:
        """How the tables are meant, one sentence each."""
        return ()


def mean_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the columns that hold numbers; rows in which one is not known (-1, NaN) are left out of its mean."""
    out: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        given = [row[name] for row in rows if name in row]
        if any(isinstance(value, str) for value in given):
            continue
        values = np.array(given, dtype=np.float64)
        counted = values[np.isfinite(values) & (values != -1)]
        if len(counted):
            out[name] = float(counted.mean())
    return out


def even(rows: Sequence[Mapping[str, Any]], blank: Any = "") -> list[dict[str, Any]]:
    """Rows that all have the columns of any of them.

    Args:
        rows: Rows of a table.
        blank: What stands where a row lacks a column.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, blank) for name in names} for row in rows]
