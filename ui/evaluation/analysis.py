"""The analysis of predictions in files: what `visionkit analyze` writes, without the pixels."""

from __future__ import annotations

from pathlib import Path

from ui.evaluation.measured import Measured
from visionkit.analysis.base import Analysis


def write_analysis(folder: Path, kind: str, measured: Measured, slices: str | None = None) -> None:
    """Writes report.html, analysis.json and images.csv, and prints the breakdown of the errors.

    Args:
        folder: A new or empty folder.
        kind: Type of evaluation.
        measured: What was measured; where it has no analysis, the table of images is grouped alone.
        slices: A csv with further columns by the name of the image.

    Raises:
        DataError: The csv cannot be read.
    """
    from rich.console import Console

    from visionkit.analysis.base import even
    from visionkit.analysis.collected import Collected
    from visionkit.analysis.metadata import read_facts
    from visionkit.analysis.report import PAGE, Described, write_report
    from visionkit.tables import print_table

    analysis = measured.analysis or Analysis()
    if not analysis.rows:
        analysis.rows = [{"image": "", **row} for row in measured.images]
    collected = Collected(analysis, {**analysis.facts, **(read_facts(slices) if slices else {})})
    collected.add_named()
    collected.draw_worst(measured.worst)
    facts = {"kind": kind, "split": "files"}
    described = Described(f"Evaluation of {kind}", measured.protocol, measured.metrics, measured.tables, {}, facts)
    tables = write_report(folder, described, collected)
    console = Console()
    for title, rows in tables.items():
        if title.startswith("error breakdown") or title == "slices":
            print_table(title, even(rows), console)
    for note in analysis.notes():
        print(note)
    print(f"{folder / PAGE}: {len(collected.facts)} images")
