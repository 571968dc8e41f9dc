"""Joins models that were trained apart on one frozen backbone into one, without training.

Each MODEL is a checkpoint or a bundle and becomes a head: NAME=MODEL states its name, otherwise it is called by its run
or file. A joint model gives all its heads. Backbones that are not the same are refused, the differing tensors named.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from visionkit.errors import UsageError
from visionkit.model_files import check_model

SUMMARY = "join models that share a frozen backbone into one with several heads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("models", nargs="+", metavar="[NAME=]MODEL", help="checkpoints or bundles, two at least")
    parser.add_argument("--out", required=True, metavar="FILE", help="the joint checkpoint, such as joint.ckpt")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def run(args: argparse.Namespace) -> int:
    """Joins and reports the result."""
    if Path(args.out).exists() and not args.overwrite:
        raise UsageError(f"--out {args.out}: already exists; give another name or --overwrite")
    for each in args.models:
        name, sign, path = each.partition("=")
        check_model(path if sign and name.isidentifier() else each)
    from tasks.multitask.joining import join, name_models
    from visionkit.checkpoint import load_task, save_checkpoint

    joint = join({name: load_task(path) for name, path in name_models(args.models).items()})
    path = save_checkpoint(joint, Path(args.out), overwrite=args.overwrite)
    print(f"{path}: {', '.join(joint.tasks)}")
    return 0
