"""Configuration files: shipped ones are found by name, and every file is checked before anything heavy is imported.

>>> resolve("classification").name
'classification.yaml'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from visionkit.errors import UsageError, suggest

SHIPPED = Path(__file__).parent / "configs"
"""Part of the package, so an installed wheel has them too."""

_FOLDERS = ("task", "data", "trainer", "logger", "experiment")
_MAX_NODES = 200_000
"""Values of one file with its aliases written out: a file of 400 bytes can stand for billions."""


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
        text = path.read_text(encoding="utf-8-sig")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid yaml: {_fault(error)}") from None
    except RecursionError:
        raise UsageError(f"{path}: not a configuration: it is nested too deep") from None
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}: a configuration is a mapping with keys such as model, data and trainer")
    _check(path, root)
    plain = yaml.BaseLoader("").construct_document(root)
    return plain if isinstance(plain, dict) else {}


def _fault(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


def _check(path: Path, root: yaml.Node) -> None:
    """Refuses duplicate keys, of which yaml takes the last and says nothing, and aliases that grow without end."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting: list[tuple[str, yaml.Node, bool]] = [("", root, False)]
    while waiting:
        prefix, node, done = waiting.pop()
        if isinstance(node, yaml.ScalarNode) or (id(node) in sizes and not done):
            continue
        children = _children(prefix, node)
        if done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 1) for _, child in children)
            if sizes[id(node)] > _MAX_NODES:
                raise UsageError(f"{path}: more than {_MAX_NODES:,} values once its aliases are written out")
            continue
        if id(node) in open_nodes:
            raise UsageError(f"{path}: line {node.start_mark.line + 1}: an alias that contains itself")
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys(path, prefix, node)
        waiting.append((prefix, node, True))
        waiting += [(below, child, False) for below, child in children]


def _children(prefix: str, node: yaml.Node) -> list[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return [(f"{prefix}{key.value}.", value) for key, value in node.value]
    return [(f"{prefix}{number}.", each) for number, each in enumerate(node.value)]


def _check_keys(path: Path, prefix: str, node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{path}: line {line}: a key is a word, not a list or a mapping")
        name = str(key.value)
        if name in seen and name != "<<":
            raise UsageError(f"{path}: line {line}: duplicate key {prefix}{name}; give one of them another name")
        seen.add(name)


def lookup(documents: Sequence[Mapping[str, Any]], *keys: str) -> Any:
    """The value that the last document with that chain of keys gives, or None."""
    for document in reversed(documents):
        value: Any = document
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
