"""Configuration files: shipped ones are found by name, and every file is checked before anything heavy is imported.

>>> resolve("classification").name
'classification.yaml'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from visionkit.errors import DataError, UsageError, suggest
from visionkit.text_files import read_yaml

SHIPPED = Path(__file__).parent / "configs"
"""Part of the package, so an installed wheel has them too."""

_FOLDERS = ("task", "data", "trainer", "logger", "experiment")
_NAME_LISTS = ("classes", "keypoints")
_BARE = re.compile(r"[^\W\d](?:[\w./ -]*[\w./-])?")
_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"}


def shipped() -> dict[str, Path]:
    """The shipped configurations by their short names (`classification`) and by folder (`task/classification`)."""
    paths = [path for folder in _FOLDERS for path in sorted((SHIPPED / folder).glob("*.yaml"))]
    names = {f"{path.parent.name}/{path.stem}": path for path in paths}
    for path in reversed(paths):  # a name in two folders belongs to the first
        names[path.stem] = path
    return names


def resolve(name: str) -> Path:
    """The file that `-c NAME` means: a path, or the name of a shipped configuration.

    Args:
        name: `runs/a/config.yaml`, `classification`, `task/classification` or, from any folder,
            `configs/task/classification.yaml`.

    Raises:
        UsageError: Neither; the nearest shipped name is suggested.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped()
    short = name.removeprefix("./").removeprefix("configs/").removesuffix(".yaml").removesuffix(".yml")
    if short in known:
        return known[short]
    what = "a folder, not a configuration file" if path.is_dir() else "no such file"
    tasks = ", ".join(sorted(key for key, at in known.items() if "/" not in key and at.parent.name == "task"))
    nearest = suggest(path.stem, [key for key in known if "/" not in key])
    raise UsageError(f"-c {name}: {what}, and no shipped configuration has that name ({tasks}, ...){nearest}")


def resolve_files(arguments: Sequence[str]) -> list[str]:
    """Replaces the configurations that a command line names with paths, and checks the files.

    Args:
        arguments: What follows the verb.

    Raises:
        UsageError: A file does not exist, is not valid yaml, or has a duplicate key.
    """
    resolved = list(arguments)
    for index, value, rest in _given(arguments):
        path = resolve(value)
        read(path)
        resolved[index] = f"{rest}{path}"
    return resolved


def files(arguments: Sequence[str]) -> list[Path]:
    """The configuration files of a command line, in order; later ones win."""
    return [Path(value) for _, value, _ in _given(arguments)]


def _given(arguments: Sequence[str]) -> list[tuple[int, str, str]]:
    """Position, value and what stands before the value, for each `-c` and `--config`."""
    found: list[tuple[int, str, str]] = []
    for index, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if name not in ("-c", "--config"):
            continue
        if sign:
            found.append((index, value, f"{name}="))
        elif index + 1 < len(arguments):
            found.append((index + 1, arguments[index + 1], ""))
        else:
            raise UsageError(f"{name}: name a configuration file")
    return found


def read(path: Path) -> dict[str, Any]:
    """Reads one file, checked; every scalar is text, as it is written.

    Raises:
        UsageError: It cannot be read, is not yaml, not a mapping, too large, or has a duplicate key; names the line.
    """
    try:
        found = read_yaml(path, "configuration", as_text=True, unique=True)
    except DataError as error:
        raise UsageError(str(error)) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{path}: a configuration is a mapping with keys such as model, data and trainer")
    return found


def lookup(documents: Sequence[Mapping[str, Any]], *keys: str) -> Any:
    """The value that the last document with that chain of keys gives, or None."""
    for document in reversed(documents):
        value: Any = document
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def dump(config: Any) -> str:
    """Writes a configuration so that every reader of yaml, 1.1 and 1.2, finds the same values in it.

    Text that any of them takes for something else (`1e3`, `no`, `12:30`, `=`) is quoted.
    """
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Quotes all text that is not plainly a word or a path."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, value: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=None if _is_plain(value) else '"')


_Dumper.add_representer(str, _Dumper.text)


def _is_plain(text: str) -> bool:
    """Whether every reader of yaml takes it for text without quotes."""
    return _BARE.fullmatch(text) is not None and text.lower() not in _RESERVED


def quote_names(text: str, names: bool = False) -> str:
    """Puts quotes around names that yaml would read as numbers, truth values, dates or nothing.

    Args:
        text: A yaml document.
        names: It is a list of names itself; otherwise those below `classes` and `keypoints` are meant.

    Returns:
        The document with these names quoted, all else as it was; as it came where it is not valid yaml.
    """
    if not names and not any(key in text for key in _NAME_LISTS):
        return text
    try:
        if _are_text(json.loads(text), names):
            return text  # the parser is handed thousands of names as json, which yaml would read for seconds
    except (ValueError, RecursionError):
        pass
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return text
    scalars: dict[int, yaml.ScalarNode] = {}
    seen: set[int] = set()
    waiting = [(root, names and isinstance(root, yaml.SequenceNode))] if root is not None else []
    while waiting:
        node, named = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            if named and node.style is None and node.value and not _is_plain(node.value):
                scalars[node.start_mark.index] = node
        elif isinstance(node, yaml.MappingNode) and id(node) not in seen:
            seen.add(id(node))
            # `classes: null` is nothing, not a name.
            waiting += [(v, key.value in _NAME_LISTS and isinstance(v, yaml.SequenceNode)) for key, v in node.value]
        elif isinstance(node, yaml.SequenceNode) and id(node) not in seen:
            seen.add(id(node))
            waiting += [(each, named) for each in node.value]
    for _, node in sorted(scalars.items(), reverse=True):
        before, after = text[: node.start_mark.index], text[node.end_mark.index :]
        text = f"{before}{json.dumps(node.value, ensure_ascii=False)}{after}"
    return text


def _are_text(value: Any, named: bool) -> bool:
    if isinstance(value, dict):
        return all(_are_text(each, key in _NAME_LISTS) for key, each in value.items())
    if isinstance(value, list):
        return all(_are_text(each, False) and (isinstance(each, str) or not named) for each in value)
    return True
