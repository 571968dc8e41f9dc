"""`--model.help`: every argument of a task, those of its input, its optimizer and each of its architectures included.

jsonargparse lists an argument whose value is an object without what the object takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from visionkit import configurations
from visionkit.arguments import given
from visionkit.cli_errors import class_names, subclasses
from visionkit.errors import UsageError, suggest
from visionkit.model_layers import read_model
from visionkit.plain_values import plain
from visionkit.signatures import complete
from visionkit.task import VisionTask


def model_help(arguments: Sequence[str]) -> str | None:
    """The help that a command line asks for by `--model.help` or `--model.<argument>.help`.

    Args:
        arguments: What follows the verb; the task is what `--model.help` names, or what it configures.

    Returns:
        The text; None where none is asked for.

    Raises:
        UsageError: No task is named, one that there is not, or an argument that has no fields.
    """
    options = given(arguments)
    asked = [re.fullmatch(r"--model(?:\.(\w+))?\.help", name) for name, _ in options]
    if not any(asked):
        return None
    documents = [configurations.read(path) for path in configurations.files(arguments)]
    names = [configurations.lookup(documents, "model", "class_path")]
    names += [value for name, value in options if name in ("--model", "--model.class_path", "--model.help") and value]
    name = next((each for each in reversed(names) if each), None)
    if name is None:
        raise UsageError("--model.help: name a task, --model.help DetectionTask, or a configuration, -c detection")
    block = next((found[1] for found in asked if found and found[1]), None)
    task = _task(str(read_model(name).get("class_path", "")))
    if block is not None and block not in (known := [each.partition(".")[0] for each in blocks(task)]):
        listed = ",".join(known)
        raise UsageError(
            f"--model.{block}.help: of {task.__name__} there is --model.{{{listed}}}.help{suggest(block, known)}"
        )
    return _page(task, block)


def blocks(task: Any) -> dict[str, type]:
    """What has fields of its own among the arguments of a task: input, optimizer, architectures.

    Those of a mapping, such as the heads of a joint model, stand under `<argument>.NAME`.
    """
    complete(task)
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(task.__init__).items():
        for each in typing.get_args(hint):
            inner = [(name, each), *((f"{name}.NAME", kind) for kind in typing.get_args(each)[1:])]
            found.update((key, typing.cast(type, kind)) for key, kind in inner if dataclasses.is_dataclass(kind))
    return found


def _task(name: str) -> Any:
    kinds = {each.__name__: each for each in subclasses(VisionTask)}
    short, known = name.rpartition(".")[2], class_names("model")
    if short not in known:
        raise UsageError(f"--model.help {name}: no such task; known are {', '.join(known)}{suggest(short, known)}")
    return kinds[short]


def _page(task: Any, only: str | None) -> str:
    parser, inner = ArgumentParser(add_help=False, usage=argparse.SUPPRESS), blocks(task)
    if only is None:
        parser.add_class_arguments(task, "model", skip={each for each in inner if "." not in each})
    for name, kind in inner.items():
        if only in (None, name.partition(".")[0]):
            parser.add_class_arguments(kind, f"model.{name}")
    if "input" in inner and only in (None, "input"):
        usual = plain(task.default_input())
        parser.set_defaults({f"model.input.{key}": value for key, value in usual.items()})
    # Every group has a line for a file of its values, which an argument within a class does not take, and a mapping one
    # for a help that is part of this one.
    foreign = r"^  --\S+( CONFIG\s+Path to a configuration file\.|\.help\s+Show the help for \w+ and exit\.)\n"
    return re.sub(foreign, "", parser.format_help(), flags=re.MULTILINE)
