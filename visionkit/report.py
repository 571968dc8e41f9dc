"""Results on the terminal and in a file, with the protocol they were measured by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionkit.errors import EnvironmentFault
from visionkit.task import VisionTask


def results_record(task: VisionTask, results: Mapping[str, float], part: str | None = None) -> dict[str, Any]:
    """Metrics, protocol and tables as plain json types."""
    return {
        "task": task.name,
        "protocol": task.protocol,
        **({"part": part} if part else {}),
        "metrics": {name: float(value) for name, value in results.items()},
        "tables": task.tables(),
    }


def print_results(task: VisionTask, results: Mapping[str, float], part: str | None = None) -> None:
    """Prints the metrics, and the task's tables where they are short enough to read.

    Args:
        task: That was measured.
        results: Its metrics.
        part: Says that not the whole split was measured, and why.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("metric", "value")
    for name, value in results.items():
        table.add_row(name, f"{float(value):.4f}")
    console.print(table)
    if task.protocol:
        console.print(task.protocol, highlight=False)
    if part:
        console.print(part, highlight=False)
    for title, rows in task.tables().items():
        if not rows or len(rows) > 30:
            continue
        shown = Table(*rows[0], title=title, title_justify="left")
        for row in rows:
            shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
        console.print(shown)


def write_results(path: Path, task: VisionTask, results: Mapping[str, float], part: str | None = None) -> None:
    """Writes the record as json."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results_record(task, results, part), indent=2) + "\n")
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
