"""How a task's tables are drawn: declared by the task, rendered by `visionkit.run_report.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]
"""A table as tasks give it: each row maps column to value."""


@dataclass(frozen=True)
class Curves:
    """A table drawn as lines over one of its columns.

    Attributes:
        x: The column that runs along the horizontal axis.
        y: Label of the vertical axis.
        columns: The columns that are drawn, a line each; all others by default.
        log_x: The horizontal axis is logarithmic.
        limits: Range of the vertical axis, or None for that of the values.
    """

    x: str
    y: str
    columns: tuple[str, ...] = ()
    log_x: bool = False
    limits: tuple[float, float] | None = (0.0, 1.0)


@dataclass(frozen=True)
class Bars:
    """A table drawn as one horizontal bar per row.

    Attributes:
        label: The column that names the bars.
        value: The column that is their length, in [0, 1].
    """

    label: str
    value: str


Chart = Curves | Bars


def is_matrix(rows: Rows) -> bool:
    """Whether a table counts truth by row and prediction by column, so that it is drawn as a confusion matrix.

    Its first column names the rows as the others are named; it may lack the row of what is found where nothing is.
    """
    if not rows:
        return False
    first, *columns = rows[0]
    names = [row[first] for row in rows]
    return len(columns) > 1 and names == columns[: len(names)] and len(columns) - len(names) <= 1
