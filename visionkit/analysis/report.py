"""The folder of an analysis: `report.html`, `analysis.json` and `images.csv`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visionkit.analysis.base import Tables
from visionkit.analysis.collected import Collected, Ranked
from visionkit.analysis.page import Page
from visionkit.errors import EnvironmentFault
from visionkit.report import write_record
from visionkit.run_report.charts import Chart
from visionkit.run_report.evaluation import draw_table, write_csv
from visionkit.run_report.sheets import drawn_pair

PAGE, RECORD, IMAGES = "report.html", "analysis.json", "images.csv"

HIDDEN = ("precision-recall", "roc", "cmc")
"""Tables that the page shows as charts alone; the record has their rows."""


@dataclass(frozen=True)
class Described:
    """What was analyzed.

    Attributes:
        title: Title of the page: the model and the split.
        protocol: How the metrics were measured.
        metrics: The task's metrics by name.
        tables: The task's tables by title.
        charts: How they are drawn.
        facts: What else the record states: task, model, split.
    """

    title: str
    protocol: str
    metrics: Mapping[str, float]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    charts: Mapping[str, Chart] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_report(folder: Path, described: Described, collected: Collected) -> Tables:
    """Writes the page, the record and the table of images.

    Args:
        folder: Made where it is not there; files of an earlier analysis are replaced.
        described: What was analyzed.
        collected: What was collected.

    Returns:
        The tables of the analysis.

    Raises:
        EnvironmentFault: The folder cannot be written.
    """
    collected.analysis.finish()
    own = collected.tables()
    rows = collected.rows
    if collected.given and not collected.named:
        print(
            f"slices: no row of the csv names one of the {len(rows):,} images, such as "
            f"{rows[0]['image'] if rows else ''}; its columns are left out",
            file=sys.stderr,
        )
    rankings = {"worst images": collected.worst, "most confident errors by image": collected.confident}
    page = _page(described, collected, own, {title: ranked for title, ranked in rankings.items() if ranked})
    record = {
        **described.facts,
        "protocol": described.protocol,
        "images": len(rows),
        "metrics": dict(described.metrics),
        "notes": list(collected.analysis.notes()),
        **{title: [each.row["image"] for each in ranked] for title, ranked in rankings.items()},
        "tables": {**own, **described.tables},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PAGE).write_text(page, encoding="utf-8")
        if rows:
            write_csv(folder / IMAGES, rows)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: the analysis cannot be written ({error.strerror})") from error
    write_record(folder / RECORD, _plain(record))
    return own


def _page(described: Described, collected: Collected, own: Tables, rankings: Mapping[str, Sequence[Ranked]]) -> str:
    page = Page(described.title)
    page.text(f"{len(collected.facts):,} images. {described.protocol}")
    if described.metrics:
        page.table([{"metric": name, "value": value} for name, value in described.metrics.items()])
    charts, split = {**described.charts, **collected.charts()}, str(described.facts.get("split", "files"))
    slices = own.get("slices", [])
    for title, rows in own.items():
        if title != "slices":
            _section(page, split, title, rows, charts.get(title))
    for note in collected.analysis.notes():
        page.text(note)
    for title, ranked in rankings.items():
        page.heading(title.capitalize())
        page.text("Truth on the left, prediction on the right.")
        page.images((_pair(each), f"{each.row['image']}: {each.caption}") for each in ranked)
    if shown_together := collected.shown_together():
        page.heading("Images of these tables")
        page.images(shown_together)
    if slices:
        page.heading("Slices")
        page.table(slices)
    for title, table in described.tables.items():
        if table:
            _section(page, split, title, table, charts.get(title))
    page.heading("Images")
    page.text(f"All of them are in {IMAGES}.")
    page.table(collected.rows)
    return page.render()


def _section(page: Page, split: str, title: str, table: Sequence[Mapping[str, Any]], chart: Chart | None) -> None:
    page.heading(title.capitalize())
    drawn = draw_table(title, table, chart, split)
    if drawn is not None:
        page.chart(drawn)
    if drawn is None or title not in HIDDEN:
        page.table(table)


def _pair(ranked: Ranked) -> list[np.ndarray]:
    known, predicted, _ = drawn_pair(ranked.sample, ranked.prediction)
    return [known, predicted]


def _plain(value: Any) -> Any:
    """Plain json types, with null in place of numbers that json does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
