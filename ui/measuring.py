"""Commands that measure stored models on data: how their arguments become those of `visionkit validate` and `test`."""

from __future__ import annotations

import argparse
from pathlib import Path

from visionkit.errors import UsageError
from visionkit.model_files import CHECKPOINTS, is_bundle

FOLDERS = "FolderData"
"""The reader of a folder where nothing names one: one folder per class, as classifiers have it."""


def add_data_arguments(parser: argparse.ArgumentParser, model: str) -> None:
    """Adds what chooses the data; `--data.ARGUMENT` and `--trainer.ARGUMENT` are handed on.

    Args:
        parser: Parser of a command.
        model: What the command calls the model whose run knows its data.
    """
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help=f"folder of the data, or a configuration (default: that of {model}'s run)",
    )
    parser.add_argument("-c", "--config", metavar="FILE", action="append", default=[], help="configuration of the data")
    parser.add_argument("--data", dest="reader", metavar="CLASS", help=f"reader of the data (default: {FOLDERS})")
    parser.set_defaults(forwarded=())


def data_arguments(model: str, args: argparse.Namespace) -> list[str]:
    """The arguments of `validate` and `test` that choose the data.

    Args:
        model: Model whose run states them, where it is a run.
        args: What `add_data_arguments` has read.

    Raises:
        UsageError: Nothing states the data.
    """
    run, folder = Path(model), args.data is not None and Path(args.data).is_dir()
    chosen = [part for each in args.config for part in ("--config", each)]
    chosen += ["--data", args.reader] if args.reader else []
    if args.data is not None and not folder:
        chosen += ["--config", args.data]
    if not chosen and not is_bundle(run) and (run / CHECKPOINTS).is_dir():
        written = sorted(run.glob("config*.yaml"), key=lambda each: each.stat().st_mtime)
        chosen = ["--config", str(written[-1])] if written else []
    if not chosen and not folder:
        raise UsageError(f"{model}: is no run that knows its data; give DATA, or --data CLASS and its options")
    chosen = chosen or ["--data", FOLDERS]
    return [*chosen, *(("--data.root", args.data) if folder else ()), *args.forwarded]
