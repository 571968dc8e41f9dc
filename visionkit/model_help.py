"""`--model.help`: every argument of a task, those of its input, its optimizer and each of its architectures included.

jsonargparse lists an argument whose value is an object without what the object takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import typing
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from visionkit import configurations
from visionkit.arguments import given
from visionkit.cli_errors import class_names, subclasses
from visionkit.errors import UsageError, suggest
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
    task = _task(json.loads(name).get("class_path", "") if name.startswith("{") else name)
    if block is not None and block not in (known := blocks(task)):
        listed = ",".join(known)
        raise UsageError(
            f"--model.{block}.help: of {task.__name__} there is --model.{{{listed}}}.help{suggest(block, known)}"
        )
    return _page(task, block)


def blocks(task: Any) -> dict[str, type]:
    """The arguments of a task whose values are objects with fields of their own: input, optimizer, architectures."""
    complete(task)
    found = {}
    for name, hint in typing.get_type_hints(task.__init__).items():
        kinds = [each for each in (typing.get_args(hint) or (hint,)) if dataclasses.is_dataclass(each)]
        if len(kinds) == 1 and type(None) in typing.get_args(hint):
            found[name] = typing.cast(type, kinds[0])
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
        parser.add_class_arguments(task, "model", skip=set(inner))
    for name, kind in inner.items():
        if only in (None, name):
            parser.add_class_arguments(kind, f"model.{name}")
    if "input" in inner and only in (None, "input"):
        usual = plain(task.default_input())
        parser.set_defaults({f"model.input.{key}": value for key, value in usual.items()})
    # Every group has a line for a file of its values, which an argument within a class does not take.
    return re.sub(r"^  --\S+ CONFIG\s+Path to a configuration file\.\n", "", parser.format_help(), flags=re.MULTILINE)
