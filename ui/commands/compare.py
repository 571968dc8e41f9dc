"""Compares two models on the same images: the difference of each metric, its interval, and its p-value.

A and B are runs (their best checkpoints), .ckpt files, bundle folders or public names, of one task and equal classes.
Both are measured on the test split of DATA, image by image. Intervals are those of the paired bootstrap; p is that of a
permutation test in which both models' predictions of an image change places. A difference whose p is above .05 may well
be chance.

  visionkit compare runs/resnet18 runs/resnet50
  visionkit compare models/a models/b flowers --split val --json

Options of the reader and of the trainer are handed on: --data.batch_size 64, --trainer.accelerator cpu.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.data_options import add_data_arguments, data_arguments
from visionkit.errors import UsageError, some_of
from visionkit.model_files import check_model, of_run, public_name

if TYPE_CHECKING:
    from visionkit.cli import VisionCLI
    from visionkit.uncertainty.by_image import ImageRecord

SUMMARY = "compare two models on the same images, with intervals and p-values"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("first", metavar="A", help="a run, .ckpt, bundle folder or public name")
    parser.add_argument("second", metavar="B", help="another model of the same task and classes")
    add_data_arguments(parser, "A")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="split (default: %(default)s)")
    parser.add_argument(
        "--replicates", type=int, default=1000, metavar="N", help="bootstrap replicates and permutations (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of both (%(default)s)")
    parser.add_argument(
        "--any-protocol", action="store_true", help="compare models whose metrics are measured in different ways"
    )
    parser.add_argument("--json", action="store_true", help="print a record in place of a table")


def run(args: argparse.Namespace) -> int:
    """Measures both models and compares them."""
    for model in (args.first, args.second):
        check_model(model)
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: a whole number from 0 on")
    from ui.commands.training import import_classes
    from visionkit.uncertainty.comparison import compare
    from visionkit.uncertainty.resampling import check_replicates

    check_replicates(args.replicates, "--replicates")
    _check_alike(args.first, args.second)
    import_classes()
    data = data_arguments(args.first, args, "FolderData")
    with redirect_stdout(sys.stderr):
        (first, a), (second, b) = (_measured(model, args.split, data) for model in (args.first, args.second))
    protocols = [each.model.whole_protocol for each in (first, second)]
    if protocols[0] != protocols[1] and not args.any_protocol:
        raise UsageError(
            f"the metrics of both are measured in different ways: {args.first}: {protocols[0]}; {args.second}: "
            f"{protocols[1]}; --any-protocol compares them all the same"
        )
    differences = compare(a, b, args.replicates, args.seed)
    method = (
        f"paired by {a.units.kind}, {len(a.ids):,} images: bootstrap and permutation test of {args.replicates:,} "
        f"replicates, seed {args.seed}"
    )
    record = {
        "first": args.first,
        "second": args.second,
        "task": first.model.name,
        "split": args.split,
        "protocol": protocols[0] if protocols[0] == protocols[1] else protocols,
        "method": method,
        "images": len(a.ids),
        "metrics": [each.to_json() for each in differences],
    }
    if args.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
    else:
        _print(record)
    return 0


def _check_alike(first: str, second: str) -> None:
    from visionkit.checkpoint import read_model

    a, b = (read_model(name if public_name(name) else of_run(Path(name))) for name in (first, second))
    if a.task != b.task:
        raise UsageError(f"{first} is a model of {a.task} and {second} one of {b.task}; compare models of one task")
    classes, others = (list(each.config.get("classes") or ()) for each in (a, b))
    if classes != others:
        alone = [
            f"{model} alone has {some_of([name for name in own if name not in theirs])}"
            for model, own, theirs in ((first, classes, others), (second, others, classes))
            if set(own) - set(theirs)
        ]
        how = "; ".join(alone) or "they stand in another order"
        raise UsageError(f"{first} and {second} have different classes, so they cannot be compared: {how}")


def _measured(model: str, split: str, data: list[str]) -> tuple[VisionCLI, ImageRecord]:
    from visionkit.callbacks import ByImage
    from visionkit.cli import measure

    by_image = ByImage()
    verb = "test" if split == "test" else "validate"
    done = measure(verb, [*data, "--ckpt_path", model, "--trainer.devices", "1"], [by_image])
    return done, by_image.record


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console

    from visionkit.tables import number, print_table

    console = Console()
    rows = [
        {
            "metric": each["metric"],
            "A": number(each["first"]),
            "B": number(each["second"]),
            "B - A": f"{each['difference']:+.4f}",
            "95 % interval": "" if each["low"] is None else f"{each['low']:+.4f} to {each['high']:+.4f}",
            "p": f"{each['p']:.4f}",
        }
        for each in record["metrics"]
    ]
    print_table("", rows, console)
    protocol = record["protocol"] if isinstance(record["protocol"], str) else " / ".join(record["protocol"])
    if tested := [each["metric"] for each in record["metrics"] if each["test"] == "bootstrap"]:
        console.print(f"p by the bootstrap, not by permutation: {', '.join(tested)}", highlight=False, markup=False)
    for line in (f"A: {record['first']}", f"B: {record['second']}", protocol, record["method"]):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
