"""Keys that stand twice in a yaml file: yaml takes the last one and says nothing; here that is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from visionkit.errors import UsageError


def check_files(arguments: Sequence[str]) -> None:
    """Looks through the files that a command line names by `-c` or `--config`.

    Raises:
        UsageError: A key stands twice; names the file, the line and the key.
    """
    for index, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        if name not in ("-c", "--config"):
            continue
        path = Path(value if sign else arguments[index + 1] if index + 1 < len(arguments) else "")
        if path.is_file():
            check_keys(path)


def check_keys(path: Path) -> None:
    """Looks through one file; what is no yaml is left to who reads it.

    Raises:
        UsageError: A key stands twice.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    waiting: list[tuple[str, yaml.Node]] = [("", root)] if root is not None else []
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += [(f"{prefix}{number}.", each) for number, each in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                line = key.start_mark.line + 1
                raise UsageError(
                    f"{path}: line {line}: {prefix}{name} stands there twice; give one of them another name"
                )
            seen.add(name)
            waiting.append((f"{prefix}{name}.", value))
