"""The data of commands that read it as it is: a folder whose reader is found out, a run, or options of a training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.data_options import first_argument
from ui.paths import check_exists
from visionkit.errors import UsageError

if TYPE_CHECKING:
    from visionkit.checkup.network import NetworkFacts
    from visionkit.data import VisionDataModule


def add_data_names(parser: argparse.ArgumentParser) -> None:
    """Adds DATA, `-c`, `--data CLASS` and what is handed on: `--data.ARGUMENT`, `--model.ARGUMENT`."""
    parser.add_argument(
        "data", metavar="DATA", nargs="?", help="folder, archive or label file; a run or its configuration"
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", action="append", help="configuration of a training; repeatable"
    )
    parser.add_argument("--data", dest="reader", metavar="CLASS", help="reader of DATA, such as CocoData, LabelMapData")
    parser.set_defaults(forwarded=())  # --data.ARGUMENT and --model.ARGUMENT, as fit takes them


def check_named(args: argparse.Namespace) -> None:
    """Finds what is wrong with the names of the data before anything slow is imported.

    Raises:
        DataError: Nothing lies there.
        UsageError: No data is named.
    """
    if args.data is None and args.config is None and args.reader is None:
        raise UsageError("name the data: a folder or a label file, or a training's options (-c FILE, --data CLASS)")
    check_exists(filter(None, (args.data,)))


def open_named(
    args: argparse.Namespace, augmented: bool = False, **splitting: Any
) -> tuple[VisionDataModule, NetworkFacts | None]:
    """The data that a command was given, and what of the network depends on it where a configuration names one.

    Args:
        args: What `add_data_names` has added; `model` is the class of a task, where the command has such an option.
        augmented: Keep the augmentation that a configuration states.
        **splitting: See `datamodules.opening.open_data`; for data that no configuration and no reader names.

    Raises:
        DataError: Nothing that is known.
        UsageError: Options that `visionkit fit` would refuse too.
    """
    from visionkit.refusals import kept_refusals

    if args.data is not None and args.reader is None and (written := _configuration(Path(args.data))) is not None:
        args.config, args.data = [*(args.config or ()), str(written)], None
    if args.config is None and args.reader is None:
        if args.forwarded:
            raise UsageError(f"{args.forwarded[0]}: name the reader that takes it with --data CLASS")
        from datamodules.opening import open_data

        with kept_refusals():  # they are reported when the data is read
            data = open_data(Path(args.data), **splitting)
        print(f"{args.data}: read as {type(data).__name__}; --data CLASS chooses another reader", file=sys.stderr)
        return data, None
    from ui.commands.training import import_classes

    import_classes()
    from visionkit.checkup.configured import open_configured

    arguments = [part for file in args.config or () for part in ("-c", file)]
    arguments += [part for name in ("reader", "model") for part in _option(name, getattr(args, name, None))]
    arguments += args.forwarded
    if args.data is not None:
        arguments += [f"--data.{first_argument(args.reader)}", args.data]
    with kept_refusals():
        return open_configured(arguments, augmented)


def _configuration(path: Path) -> Path | None:
    """The configuration of a training that a path names, itself or as the folder of a run; None where it is data."""
    if path.is_dir():
        written = path.glob("config*.yaml") if (path / "checkpoints").is_dir() else ()
        return max(written, key=lambda each: each.stat().st_mtime, default=None)
    if path.suffix not in (".yaml", ".yml"):
        return None
    from visionkit.configurations import lookup, read

    return path if lookup([read(path)], "data", "class_path") is not None else None


def _option(name: str, value: str | None) -> Sequence[str]:
    return () if value is None else ("--data" if name == "reader" else "--model", value)
