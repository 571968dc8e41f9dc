"""The data of commands that measure a stored model: how it is named, and what `visionkit test` takes of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ui.paths import check_exists
from visionkit.errors import UsageError
from visionkit.model_files import CHECKPOINTS, is_bundle


def add_data_arguments(parser: argparse.ArgumentParser, model: str = "MODEL") -> None:
    """Adds DATA, `-c`, `--data` and what is handed on: `--data.ARGUMENT`, `--model.ARGUMENT`, `--trainer.ARGUMENT`.

    Args:
        parser: Parser of a command.
        model: What the command calls the model whose run knows its data.
    """
    whose = f"folder, label file or configuration (default: the data of {model}'s run)"
    parser.add_argument("data", metavar="DATA", nargs="?", help=whose)
    parser.add_argument("-c", "--config", metavar="FILE", action="append", help="configuration of the data; repeatable")
    parser.add_argument("--data", dest="reader", metavar="CLASS", help="reader of DATA, such as CocoData, LabelMapData")
    parser.set_defaults(forwarded=())


def data_arguments(model: str, args: argparse.Namespace, folders: str | None = None) -> list[str]:
    """The arguments of `visionkit validate` and `test` that choose the data.

    Args:
        model: Model whose run states them, where it is a run.
        args: What `add_data_arguments` has added.
        folders: Reader of a folder where nothing names one; by default it is found out from what lies there.

    Raises:
        DataError: Nothing lies where DATA is, or nothing that is known.
        UsageError: Nothing states the data.
    """
    files, reader, data = list(args.config or ()), args.reader, args.data
    is_file = data is not None and Path(data).suffix in (".yaml", ".yml")
    if data is not None and not is_file and (Path(data).suffix or len(Path(data).parts) > 1):
        check_exists([data], "DATA")
    if data is not None and (is_file or not Path(data).exists()):
        files, data = [*files, data], None  # a configuration, or the name of a shipped one
    run = Path(model)
    known = not is_bundle(run) and (run / CHECKPOINTS).is_dir()
    if not files and reader is None and known and (written := sorted(run.glob("config*.yaml"), key=_age)):
        files = [str(written[-1])]
    out = [part for file in files for part in ("-c", file)]
    if reader is not None:
        out += ["--data", reader]
    elif not files:
        if data is None:
            raise UsageError(f"{model}: is no run that knows its data; give DATA, or --data CLASS and its options")
        if folders is not None:
            return [*out, "--data", folders, f"--data.{first_argument(folders)}", data, *args.forwarded]
        from datamodules.opening import open_data
        from visionkit.remembered import described

        return [*out, "--data", json.dumps(described(open_data(Path(data)))), *args.forwarded]
    where = [] if data is None else [f"--data.{first_argument(reader)}", data]
    return [*out, *where, *args.forwarded]


def first_argument(reader: str | None) -> str:
    """The argument of a reader that names where its data is: `root`, `yaml`, `csv`; `root` of an unknown one.

    Args:
        reader: Name of its class, which is imported.
    """
    import inspect

    from visionkit.cli_errors import subclasses
    from visionkit.data import VisionDataModule

    name = (reader or "").rpartition(".")[2]
    kind = next((each for each in subclasses(VisionDataModule) if each.__name__ == name), None)
    return "root" if kind is None else [*inspect.signature(kind.__init__).parameters][1]


def _age(path: Path) -> float:
    return path.stat().st_mtime
