"""Results on the terminal and in a file, with the protocol they were measured by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.errors import EnvironmentFault

if TYPE_CHECKING:
    from visionkit.task import VisionTask
    from visionkit.uncertainty.resampling import Intervals

PER_IMAGE = "per image"
"""A table of this name is for the file: nobody reads a row per image on the terminal."""


REPEATED = "COCO"
"""A table of this name is for the file too: its numbers are among the metrics."""


def results_record(
    task: VisionTask, results: Mapping[str, float], part: str | None = None, intervals: Intervals | None = None
) -> dict[str, Any]:
    """Metrics, protocol and tables as plain json types."""
    return {
        "task": task.name,
        "protocol": task.whole_protocol,
        **({"part": part} if part else {}),
        "metrics": {name: float(value) for name, value in results.items()},
        **({} if intervals is None else intervals.to_json()),
        "tables": task.tables(),
    }


def print_results(
    task: VisionTask, results: Mapping[str, float], part: str | None = None, intervals: Intervals | None = None
) -> None:
    """Prints the metrics, and the task's tables where they are short enough to read.

    Args:
        task: Task that was measured.
        results: Its metrics.
        part: States that not the whole split was measured, and why.
        intervals: Intervals of the metrics.
    """
    print_record(results_record(task, results, part, intervals))


def print_record(record: Mapping[str, Any]) -> None:
    """Prints the metrics, the protocol and the tables of a record that are short enough to read.

    Args:
        record: See `results_record`.
    """
    from rich.console import Console

    from visionkit.tables import print_metrics, print_table

    console = Console()
    print_metrics(record["metrics"], console, record.get("intervals") or {})
    missing = record.get("no_interval") or ()
    lacking = (
        f"no interval (not computed by image, biased by resampling, or of too few images): {', '.join(missing)}"
        if missing
        else ""
    )
    for line in filter(None, (record["protocol"], record.get("part"), record.get("interval_method"), lacking)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for title, rows in record["tables"].items():
        if not title.endswith((PER_IMAGE, REPEATED)):
            print_table(title, rows, console)


def write_results(
    path: Path,
    task: VisionTask,
    results: Mapping[str, float],
    part: str | None = None,
    intervals: Intervals | None = None,
) -> None:
    """Writes the record of a task as json."""
    write_record(path, results_record(task, results, part, intervals))


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record as json.

    Raises:
        EnvironmentFault: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
