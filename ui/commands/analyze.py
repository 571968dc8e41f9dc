"""States where a model is wrong on a split of DATA, and how: errors by kind, worst images, calibration, slices.

MODEL is a run (its best checkpoint), a .ckpt, a bundle folder or a public name. DATA is a folder or a configuration; of
a run it may be left out. The folder --out gets report.html (one file with tables, charts and images), analysis.json
and images.csv, one row per image; the terminal gets the short tables.

  visionkit analyze runs/flowers
  visionkit analyze models/bccd --data VocData --data.root bccd --split val --out bccd-errors
  visionkit analyze runs/flowers --slices weather.csv --wandb

Options of the data and the trainer go on as they are, as `visionkit test` takes them. Predictions of other programs
are analyzed by `visionkit evaluate ... --analysis DIR`.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ui.data_options import add_data_arguments, data_arguments
from ui.paths import check_exists, check_new_folder
from visionkit.errors import UsageError
from visionkit.model_files import check_model

LINES = 5
"""Images of each ranking that are printed."""

COLUMNS = 7
"""Columns of the table of slices that are printed; the files have all of them."""

SUMMARY = "state where a model is wrong: errors by kind, worst images, slices"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("model", metavar="MODEL", help="a run, .ckpt, bundle folder or public name (timm:resnet50)")
    add_data_arguments(parser)
    parser.add_argument("--split", default="test", choices=("val", "test"), help="split to analyze (%(default)s)")
    parser.add_argument(
        "--out", metavar="DIR", help="a new or empty folder (default: analysis of a run, or ./analysis)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier analysis wrote")
    parser.add_argument(
        "--slices",
        metavar="FILE.csv",
        help="columns to group images by; the first one names the images (default: size, brightness, objects)",
    )
    parser.add_argument("--worst", type=int, default=24, metavar="N", help="images of each ranking (%(default)s)")
    parser.add_argument("--wandb", action="store_true", help="log the tables and images to Weights & Biases too")


def run(args: argparse.Namespace) -> int:
    """Analyzes, writes and prints. Returns the exit status."""
    check_model(args.model)
    check_exists(filter(None, (args.slices,)), "--slices")
    if args.worst < 0:
        raise UsageError(f"--worst {args.worst}: a number from 0 on")
    out = Path(args.out or (Path(args.model) / "analysis" if Path(args.model).is_dir() else "analysis"))
    if not args.overwrite:
        check_new_folder(str(out))
    from ui.commands.training import import_classes

    import_classes()
    argv = [*data_arguments(args.model, args), "--ckpt_path", args.model, "--trainer.devices", "1"]
    if args.wandb:
        argv += ["--trainer.logger", "WandbTracker", "--trainer.logger.save_dir", str(out)]
    from visionkit.callbacks.analysis import AnalysisReport
    from visionkit.cli import measure

    report = AnalysisReport(out, args.slices, args.worst, args.model)
    with redirect_stdout(sys.stderr):
        done = measure("test" if args.split == "test" else "validate", argv, [report])
    _print(report, done.results, done.model.whole_protocol)
    return 0


def _print(report: object, results: dict[str, float], protocol: str) -> None:
    from rich.console import Console

    from visionkit.analysis.base import even
    from visionkit.callbacks.analysis import AnalysisReport
    from visionkit.report import print_record
    from visionkit.tables import print_table

    assert isinstance(report, AnalysisReport) and report.collected is not None
    print_record({"metrics": results, "protocol": protocol, "tables": {}})
    console = Console()
    tables, collected = report.tables, report.collected
    for title, rows in tables.items():
        if title.startswith("error breakdown"):
            print_table(title, rows, console)
    for title, ranked in (("worst images", collected.worst), ("most confident errors", collected.confident)):
        if ranked:
            print(title)
        for each in ranked[:LINES]:
            print(f"  {each.row['image']}: {each.caption}")
    if slices := tables.get("slices"):
        print_table("slices", [dict(list(row.items())[:COLUMNS]) for row in even(slices)], console)
    for note in collected.analysis.notes():
        print(note)
    print(f"{report.page}: {len(collected.facts)} images")
