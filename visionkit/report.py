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

    from visionkit.tables import print_metrics, print_table

    console = Console()
    print_metrics(results, console)
    for line in filter(None, (task.protocol, part)):
        console.print(line, highlight=False, markup=False)
    for title, rows in task.tables().items():
        print_table(title, rows, console)


def write_results(path: Path, task: VisionTask, results: Mapping[str, float], part: str | None = None) -> None:
    """Writes the record as json."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results_record(task, results, part), indent=2) + "\n")
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written ({error.strerror})") from error
