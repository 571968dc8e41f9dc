"""The values of a run over its steps, kept in `curves.csv` whatever the logger, across resumes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

COLUMNS = ("step", "epoch", "name", "value")


class History:
    """What was measured at which step, one value per row.

    Args:
        path: The csv file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[tuple[int, int, str, float]] = []
        self._written = 0

    def go_on(self, step: int) -> None:
        """Takes up what an earlier part of the run has written, up to the step that it goes on from."""
        self.rows, self._written = [], 0
        if step <= 0:
            return
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    if int(row["step"]) <= step:
                        self.rows.append((int(row["step"]), int(row["epoch"]), row["name"], float(row["value"])))
        except (OSError, ValueError, KeyError, TypeError):
            self.rows = []  # nothing was written, or it was cut off: the curves begin here

    def add(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Adds values of one step; what is not a finite number is no point of a curve."""
        self.rows += [(step, epoch, name, float(v)) for name, v in values.items() if math.isfinite(float(v))]

    def write(self) -> None:
        """Brings the file up to date."""
        new = not self._written
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w" if new else "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerows(
                (step, epoch, name, f"{value:.9g}") for step, epoch, name, value in self.rows[self._written :]
            )
        self._written = len(self.rows)

    def series(self) -> dict[str, tuple[list[float], list[float]]]:
        """Steps and values by name, in the order in which the names appeared."""
        out: dict[str, tuple[list[float], list[float]]] = {}
        for step, _, name, value in self.rows:
            xs, ys = out.setdefault(name, ([], []))
            xs.append(step)
            ys.append(value)
        return out
