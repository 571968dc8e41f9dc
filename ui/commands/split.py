"""Takes a joint model apart: a checkpoint for each head, of the head's own task, that predicts as the head does."""

from __future__ import annotations

import argparse
from pathlib import Path

from visionkit.model_files import check_model

SUMMARY = "take a model with several heads apart, one checkpoint per head"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("model", metavar="MODEL", help="a joint checkpoint or bundle")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where <head>.ckpt are written")
    parser.add_argument("--heads", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> int:
    """Splits and reports the result."""
    check_model(args.model)
    from tasks.multitask import MultiTask
    from tasks.multitask.joining import split
    from visionkit.checkpoint import load_task, save_checkpoint
    from visionkit.errors import UsageError, suggest

    joint = load_task(args.model)
    if not isinstance(joint, MultiTask):
        raise UsageError(f"{args.model}: holds one {joint.name} model; there is nothing to split")
    for name in args.heads or ():
        if name not in joint.tasks:
            raise UsageError(f"--heads {name}: heads are {', '.join(joint.tasks)}{suggest(name, joint.tasks)}")
    for name, task in split(joint).items():
        if not args.heads or name in args.heads:
            print(save_checkpoint(task, Path(args.out) / f"{name}.ckpt", overwrite=args.overwrite))
    return 0
