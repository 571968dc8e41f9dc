"""What is written of an evaluated split: metrics per image, images with truth and prediction, tables and charts."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from visionkit.loading import SampleDataset
from visionkit.predictions import Prediction
from visionkit.run_report.charts import Bars, Chart, Curves, Rows, is_matrix
from visionkit.run_report.plots import LARGEST_MATRIX, Line, Panel, draw_bars, draw_matrix, draw_panel
from visionkit.run_report.sheets import caption, drawn_pair, sheet
from visionkit.types import Batch

SHOWN = 12
"""Images of a split that are drawn."""


class Evaluation:
    """Collects what is known of each image while a split is evaluated.

    Args:
        dataset: Dataset of the split; anything but samples leaves truth and drawings out.
        rank: Rank of this process.
        world: Number of processes, which take the images in turns.
        limit: Images that will be seen by all processes together, for an even choice of those that are drawn.
    """

    def __init__(self, dataset: Any, rank: int, world: int, limit: int) -> None:
        self.total = len(dataset) if isinstance(dataset, Sized) else None
        self.samples = dataset.samples if isinstance(dataset, SampleDataset) else None
        self.rank, self.world = rank, world
        self.chosen = {int(k) for k in np.linspace(0, max(limit - 1, 0), min(SHOWN, limit))}
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.drawn: list[tuple[int, tuple[np.ndarray, np.ndarray], str]] = []

    def add(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Adds a batch, in the order in which the loader gives them."""
        for prediction, name in zip(predictions, batch["id"], strict=True):
            index = self.rank + len(self.rows) * self.world
            sample = self.samples[index] if self.samples is not None and index < len(self.samples) else None
            if sample is not None and (sample.id or name) != name:
                sample = None  # an order of its own: what is known belongs to another image
            truth = prediction.truth(sample.target) if sample is not None else None
            row = prediction.row(truth)
            self.rows.append((index, {"image": name, **row}))
            if sample is not None and index in self.chosen:
                known, predicted, _ = drawn_pair(sample, prediction)
                self.drawn.append((index, (_reduced(known), _reduced(predicted)), caption(row) or Path(name).name))

    def gathered(self) -> Evaluation | None:
        """That of all processes, on the first one; None on the others."""
        if self.world == 1:
            return self
        parts: list[Any] | None = [None] * self.world if self.rank == 0 else None
        torch.distributed.gather_object((self.rows, self.drawn), parts, dst=0)
        if parts is None:
            return None
        self.rows = sorted((row for rows, _ in parts for row in rows), key=lambda each: each[0])
        self.drawn = sorted((each for _, drawn in parts for each in drawn), key=lambda each: each[0])
        return self

    def write(
        self, folder: Path, split: str, tables: Mapping[str, Rows], charts: Mapping[str, Chart], weights: str
    ) -> list[str]:
        """Writes everything into a folder.

        Args:
            folder: Folder of the split; files of an earlier evaluation are replaced.
            split: For titles.
            tables: Tables of the task, by title.
            charts: How tables are drawn, by title.
            weights: Names the weights that were evaluated, for the sheet.

        Returns:
            The names of the files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.png"), *folder.glob("*.csv")):
            old.unlink()
        rows = [row for _, row in self.rows]
        if rows:
            write_csv(folder / "images.csv", rows)
        if self.drawn:
            message = (
                f"{len(self.drawn)} of {len(rows):,} images, evenly over the split{f'; {weights}' if weights else ''}"
            )
            groups = [(pair, text) for _, pair, text in self.drawn]
            sheet(f"Truth and prediction ({split})", message, groups, 3, ("truth", "prediction")).save(
                folder / "images.png", compress_level=1
            )
        for title, table in tables.items():
            if not table:
                continue
            stem = re.sub(r"[^\w.]+", "-", title).strip("-")
            write_csv(folder / f"{stem}.csv", table)
            if (drawn := draw_table(title, table, charts.get(title), split)) is not None:
                drawn.save(folder / f"{stem}.png", compress_level=1)
        return sorted(path.name for path in folder.iterdir())


def _reduced(image: np.ndarray, side: int = 640) -> np.ndarray:
    if max(image.shape[:2]) <= side:
        return image
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(small)


def write_csv(path: Path, rows: Rows) -> None:
    """A table with all columns that any row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def draw_table(title: str, rows: Rows, chart: Chart | None, split: str) -> Image.Image | None:
    """A table as its task needs it drawn; a table of counts as a confusion matrix; None for any other."""
    if isinstance(chart, Curves):
        return _draw_curves(title, rows, chart, split)
    if isinstance(chart, Bars):
        bars = [(str(row[chart.label]), float(row[chart.value])) for row in rows if chart.value in row]
        return draw_bars(f"{chart.value} {title} ({split})", bars) if bars else None
    if not is_matrix(rows) or len(rows) > LARGEST_MATRIX:
        return None
    first, *columns = rows[0]
    counts = np.array([[row[name] for name in columns] for row in rows], dtype=np.float64)
    return draw_matrix(f"{title.capitalize()} ({split})", [str(row[first]) for row in rows], columns, counts)


def _draw_curves(title: str, rows: Rows, chart: Curves, split: str) -> Image.Image | None:
    names = [name for name in chart.columns or rows[0] if name != chart.x and name in rows[0]]
    lines = []
    for name in names:
        points = [(float(row[chart.x]), float(row[name])) for row in rows]
        points = [(x, y) for x, y in points if np.isfinite(y) and y >= 0 and (x > 0 or not chart.log_x)]
        if points:
            lines.append(Line(name, [x for x, _ in points], [y for _, y in points]))
    if not lines:
        return None
    if len(lines) > 8:  # too many to be distinguished: all of them faintly, under their mean
        faint = [Line("", line.x, line.y, (198, 204, 214), 1) for line in lines]
        places = np.unique(np.concatenate([line.x for line in lines]))
        mean = np.mean([np.interp(places, line.x, line.y) for line in lines], axis=0)
        lines = [*faint, Line(f"mean of {len(lines)}", places.tolist(), mean.tolist(), width=3)]
    panel = Panel(f"{title.capitalize()} ({split})", chart.x, chart.y, lines, y_limits=chart.limits, log_x=chart.log_x)
    return draw_panel(panel, (720, 480))
