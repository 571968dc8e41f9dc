"""The command line of `fit`, `validate` and `test`, checked before anything heavy is imported.

What needs the classes (their arguments, types) is left to the parser behind it; what is refused here costs no imports.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visionkit import configurations
from visionkit.durations import seconds_of
from visionkit.errors import DataError, UsageError, suggest
from visionkit.model_files import CHECKPOINTS, check_checkpoint, check_model, find_checkpoint, of_run
from visionkit.renamed import new_key

NOTHING = (None, "", "null")
NAMED_CHECKPOINTS = ("last", "best")


LONGEST = 365 * 86_400
"""Seconds of the longest timeout between processes."""


class RunOption(NamedTuple):
    """An option of a training command that is visionkit's own, not a class's.

    Attributes:
        name: Without dashes.
        type: Type of its value.
        default: Its value where it is not given.
        help: One sentence.
        allowed: Of a number, what it may be, in words; empty where nothing checks it.
        maximum: Of a number, the largest value.
        zero: Of a number, whether 0 is allowed, which turns it off. Negative ones never are.
    """

    name: str
    type: type
    default: Any
    help: str
    allowed: str = ""
    maximum: float = math.inf
    zero: bool = True

    def check(self, value: Any) -> None:
        """Refuses a number out of range.

        Raises:
            UsageError: It is not one of those that are allowed.
        """
        if not self.allowed or isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        if not (0 < value <= self.maximum and math.isfinite(value)) and not (self.zero and value == 0):
            raise UsageError(f"{self.name} {value:g}: {'0 (off) or ' if self.zero else ''}{self.allowed}")


RUN_OPTIONS = (
    RunOption("run", str, None, "Folder of the run (default: runs/<task>-<time>)."),
    RunOption("init_from", str, None, "Begin with the weights of a trained model, where they fit."),
    RunOption(
        "max_time", str, None, "Train for a time, such as 10m or 1h30m: as many epochs as fit, with a full schedule."
    ),
    RunOption("find_lr", bool, False, "Only find a learning rate: plot the loss over it, suggest one, and end."),
    RunOption("auto_batch_size", bool, False, "Train with the largest batch that fits into memory."),
    RunOption(
        "early_stopping",
        int,
        0,
        "Stop after N validations without a better metric; 0 is off.",
        "a number of validations from 1 on",
    ),
    RunOption(
        "ema",
        float,
        0.0,
        "Decay of the weights' moving average; 0 is off.",
        "a decay above 0 and below 1",
        maximum=math.nextafter(1, 0),
    ),
    RunOption(
        "checkpoint_every",
        int,
        0,
        "Also save every N steps, beside the end of each epoch; 0 is off.",
        "a number of steps from 1 on",
    ),
    RunOption(
        "stop_after_nonfinite",
        int,
        3,
        "Stop (status 6) after that many NaN or infinite losses in a row; 0 is off.",
        "a number of losses from 1 on",
    ),
    RunOption("report", bool, True, "Write figures, tables and a summary into the run's folder."),
    RunOption(
        "rank_timeout",
        float,
        1800.0,
        "Seconds after which a process that does not respond ends the others; it cannot be turned off.",
        f"seconds above 0 and at most {LONGEST:,} (a year); it cannot be turned off",
        maximum=LONGEST,
        zero=False,
    ),
    RunOption(
        "hang_timeout",
        float,
        0.0,
        "End (status 5) after N seconds without a step; 0 is off.",
        "a number of seconds above 0",
    ),
)
"""The measuring commands take them too, so that a run's config.yaml serves them."""

MEASURING = (
    RunOption("results", str, None, "Write the metrics to this json file."),
    RunOption("bootstrap", int, 0, "State intervals of the metrics too, from that many bootstrap replicates by image."),
)
"""Of the measuring commands alone."""


def check_run_options(values: Mapping[str, Any]) -> None:
    """Refuses numbers of the run's own options and of the seed that are out of range, from wherever they come.

    Args:
        values: Options by name; others may stand among them.

    Raises:
        UsageError: One is out of range.
    """
    for each in RUN_OPTIONS:
        each.check(values.get(each.name))
    seed = values.get("seed_everything")
    if isinstance(seed, int) and not 0 <= seed < 2**32:
        raise UsageError(f"seed_everything {seed}: a whole number from 0 to {2**32 - 1}")


_SWITCHES = frozenset(each.name for each in RUN_OPTIONS if each.type is bool)
"""Options that may stand without a value, which then is true."""

_LIGHTNING = ("config", "print_config", "seed_everything", "model", "data", "trainer", "ckpt_path", "weights_only")
_GENERAL = ("help", "verbose")
_FLAGS = (*_GENERAL, "print_config")


def check_arguments(verb: str, arguments: Sequence[str]) -> list[str]:
    """Checks names of options, configuration files, models and folders.

    Args:
        verb: `fit`, `validate` or `test`.
        arguments: What follows it.

    Returns:
        The arguments with the paths of the configurations that were named.

    Raises:
        UsageError: An unknown option, or a configuration that cannot be used.
        CheckpointError: A checkpoint or model that does not exist.
        DataError: A folder of data that does not exist.
    """
    _check_options(verb, arguments)
    if verb == "fit" and (max_time := option(arguments, "--max_time")) not in NOTHING:
        seconds_of(str(max_time), "--max_time")
    arguments = _with_names(_with_values(arguments))
    resolved = configurations.resolve_files(arguments)
    if verb != "fit":
        resolved = _with_run(resolved)
    documents = [configurations.read(path) for path in configurations.files(resolved)]
    _check_models(verb, resolved)
    _check_root(resolved, documents)
    return resolved


def given(arguments: Sequence[str]) -> list[tuple[str, str | None]]:
    """Each option with its value, which is None where none follows; what belongs to no option has an empty name."""
    found: list[tuple[str, str | None]] = []
    for argument in arguments:
        if argument.startswith(("--", "-c=")) or argument in ("-c", "-h"):
            name, sign, value = argument.partition("=")
            found.append((name, value if sign else None))
        elif found and found[-1][0] and found[-1][1] is None:
            found[-1] = (found[-1][0], argument)
        else:
            found.append(("", argument))
    return found


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, the last one where it is given several times."""
    return next((value for each, value in reversed(given(arguments)) if each == name), None)


def _check_options(verb: str, arguments: Sequence[str]) -> None:
    own = [each.name for each in RUN_OPTIONS] + ([each.name for each in MEASURING] if verb != "fit" else [])
    known = {*own, *_LIGHTNING, *_GENERAL}
    trainer = trainer_options()
    for name, value in given(arguments):
        if not name:
            raise UsageError(f"unexpected argument {value!r}: it belongs to no option (visionkit {verb} --help)")
        first, *rest = name.lstrip("-").rstrip("+").split(".")
        if name in ("-c", "-h") or (rest and rest[-1] == "help"):
            continue
        if first not in known or not name.startswith("--"):
            everything = {f"--{each}" for each in known} | {f"--trainer.{each}" for each in trainer}
            raise UsageError(_unknown(name, everything, verb))
        if first == "trainer" and rest and trainer and rest[0] not in trainer:
            raise UsageError(_unknown(name, {f"--trainer.{each}" for each in trainer}, verb))
        if value is None and first not in (*_FLAGS, *_SWITCHES):
            raise UsageError(f"{name}: a value is missing after it")


def _unknown(name: str, known: set[str], verb: str) -> str:
    today = new_key(name.lstrip("-"))
    hint = f"; it is called --{today} today" if today else suggest(name, known)
    return f"unknown option {name}{hint} (visionkit {verb} --help lists the options)"


@functools.lru_cache(maxsize=1)
def trainer_options() -> frozenset[str]:
    """Arguments of Lightning's Trainer, read from its source because its import takes seconds; empty if not found."""
    spec = importlib.util.find_spec("lightning")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        try:
            tree = ast.parse((Path(folder) / "pytorch" / "trainer" / "trainer.py").read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__" and len(node.args.kwonlyargs) > 10:
                return frozenset(each.arg for each in node.args.kwonlyargs)
    return frozenset()


def _with_values(arguments: Sequence[str]) -> list[str]:
    """`--find_lr` alone is `--find_lr=true`."""
    bare = {name for name, value in given(arguments) if value is None and name.removeprefix("--") in _SWITCHES}
    return [f"{each}=true" if each in bare else each for each in arguments]


def _with_names(arguments: Sequence[str]) -> list[str]:
    """Class names are text, whatever yaml takes them for: `--data.classes [no, 1e3]`."""
    quoted = list(arguments)
    for index, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if not name.startswith("--") or not name.rstrip("+").endswith((".classes", ".keypoints")):
            continue
        place = index if sign else index + 1
        if place < len(arguments):
            value = value if sign else arguments[place]
            appended = name.endswith("+") and not value.startswith(("[", '"', "'"))
            value = json.dumps(value) if appended else configurations.quote_names(value, names=True)
            quoted[place] = f"{name}={value}" if sign else value
    return quoted


def _with_run(arguments: Sequence[str]) -> list[str]:
    """Makes `--ckpt_path best`, `last` and a run's folder into the path of a checkpoint.

    Where no data is named, the run's own configuration is taken.
    """
    given = option(arguments, "--ckpt_path")
    if given in NOTHING:
        return list(arguments)
    named = given in NAMED_CHECKPOINTS
    run = _run_of(arguments) if named else Path(str(given))
    if run is None:
        raise UsageError(f"--ckpt_path {given}: name its run with --run RUN, or give --ckpt_path RUN")
    path = find_checkpoint(run, str(given)) if named else of_run(run)
    if path == run:
        return list(arguments)
    resolved = [*arguments, "--ckpt_path", str(path)]
    if not configurations.files(arguments) and option(arguments, "--data") is None:
        written = sorted(run.glob("config*.yaml"), key=lambda each: each.stat().st_mtime)
        resolved = [*(("--config", str(written[-1])) if written else ()), *resolved]
    return resolved


def _run_of(arguments: Sequence[str]) -> Path | None:
    """The run that a command line names by `--run` or by the run's own configuration."""
    files = configurations.files(arguments)
    written = configurations.lookup([configurations.read(path) for path in files], "run")
    places = [option(arguments, "--run"), written, *(path.parent for path in reversed(files))]
    folders = [Path(place) for place in places if place not in NOTHING]
    return next((folder for folder in folders if (folder / CHECKPOINTS).is_dir()), folders[0] if folders else None)


def _check_models(verb: str, arguments: Sequence[str]) -> None:
    checkpoint, source = option(arguments, "--ckpt_path"), option(arguments, "--init_from")
    # `last` begins a run that has no checkpoint yet, so both together are the same words for every start.
    if checkpoint not in (*NOTHING, "last") and source not in NOTHING:
        raise UsageError("--init_from begins a training and --ckpt_path continues one; give one of them, or `last`")
    if source not in NOTHING:
        check_model(str(source))
    if checkpoint in NOTHING or checkpoint in NAMED_CHECKPOINTS:
        return
    if verb == "fit":
        check_checkpoint(Path(str(checkpoint)))
    else:
        check_model(str(checkpoint))


def _check_root(arguments: Sequence[str], documents: Sequence[Mapping[str, Any]]) -> None:
    """The folder of the data exists, unless the reader downloads it or it is an address."""
    typed = option(arguments, "--data.root")
    root = typed or configurations.lookup(documents, "data", "init_args", "root")
    download = option(arguments, "--data.download") or configurations.lookup(documents, "data", "init_args", "download")
    if not isinstance(root, str) or root in NOTHING or str(download).lower() in ("true", "yes", "on", "1"):
        return
    if "://" in root:  # s3://bucket/photos
        return
    path = Path(root)
    if not path.exists():
        parent = path.parent
        near = suggest(path.name, [each.name for each in parent.iterdir()]) if parent.is_dir() else ""
        raise DataError(f"{'--data.root' if typed else 'data.root'} {root}: no such folder{near}")
