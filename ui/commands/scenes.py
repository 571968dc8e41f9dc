"""`visionkit scenes`: writes the scene generator's data set, in the formats that people have."""

from __future__ import annotations

import argparse
import sys

from ui.paths import check_new_folder
from visionkit.wording import counted

SUMMARY = "write a drawn data set with labels for every task"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--count", type=int, default=200, help="scenes over all splits (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other scenes (default: 0)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(120, 160),
        metavar=("H", "W"),
        help="height and width in pixels (default: 120 160)",
    )
    parser.add_argument(
        "--max-size",
        type=int,
        nargs=2,
        default=None,
        metavar=("H", "W"),
        help="let every image have its own size, up to this",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the scenes and reports the result. Returns the exit status."""
    check_new_folder(args.out)
    from rich.console import Console
    from rich.progress import Progress

    from visionkit.synthetic.files import write_scenes

    max_size = None if args.max_size is None else tuple(args.max_size)
    # Progress goes to standard error, so that what is printed can be read by another program.
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("scenes", total=args.count)
        numbers = write_scenes(
            args.out,
            args.count,
            args.seed,
            tuple(args.size),
            max_size,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    fractions = ", ".join(f"{number} {split}" for split, number in numbers.items())
    print(
        f"{counted(sum(numbers.values()), 'scene')} in {args.out} ({fractions}); what is where: {args.out}/README.txt"
    )
    return 0
