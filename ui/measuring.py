"""Commands that measure stored models on data: how their arguments become those of `visionkit validate` and `test`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visionkit.errors import UsageError
from visionkit.model_files import CHECKPOINTS, is_bundle

PASSES = ("--data", "--trainer", "--config", "-c", "--seed_everything")
"""Options that go on to the training commands as they are."""

DATA_HELP = "folder of the data, or a configuration; by default the data of MODEL's run"

FOLDERS = "FolderData"
"""The reader of a folder where nothing names one: one folder per class, as classifiers have it."""


def data_arguments(model: str, data: str | None, passed: Sequence[str]) -> list[str]:
    """The arguments that choose the data.

    Args:
        model: Model whose run states them, where it is a run.
        data: What was given as DATA: a folder, a yaml file or the name of a shipped configuration.
        passed: Options of `PASSES`.

    Raises:
        UsageError: Nothing states the data.
    """
    names = {each.partition("=")[0] for each in passed}
    run = Path(model)
    written = sorted(run.glob("config*.yaml"), key=lambda each: each.stat().st_mtime) if _is_run(run) else []
    chosen = bool(names & {"--data", "--config", "-c"})
    given: list[str] = []
    if written and not chosen and (data is None or Path(data).is_dir()):
        given = ["--config", str(written[-1])]
    if data is None:
        if not (given or chosen):
            raise UsageError(f"{model}: is no run that knows its data; give DATA, or --data CLASS and its options")
    elif not Path(data).is_dir():
        given += ["--config", data]
    else:
        given += [*(() if given or chosen else ("--data", FOLDERS)), "--data.root", data]
    return [*given, *passed]


def _is_run(path: Path) -> bool:
    return not is_bundle(path) and (path / CHECKPOINTS).is_dir()
