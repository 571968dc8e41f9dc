"""What the layers of a command line state of the model: its files in order, then all that is typed together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from visionkit import configurations
from visionkit.arguments import given
from visionkit.errors import UsageError

TYPED = 1 << 30
"""Number of the layer of options that are typed, which come after all files."""


def model_layers(argv: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The arguments of the model that each layer sets, and the number of the layer, ascending.

    Args:
        argv: The command line, files and checkpoints included.
    """
    for number, (option, value) in enumerate(given(argv)):
        keys: Any = {}
        if option in ("-c", "--config") and value:
            keys = configurations.lookup([configurations.read(configurations.resolve(value))], "model", "init_args")
        elif option == "--model" and value:
            keys = read_model(value).get("init_args")
        elif option.startswith("--model."):
            first, *rest = option.removeprefix("--model.").removeprefix("init_args.").rstrip("+").split(".")
            for name in reversed(rest):
                value = {name: value}  # type: ignore[assignment]
            keys, number = {first: value}, TYPED
        if isinstance(keys, Mapping):
            yield number, keys


def read_model(value: str) -> Mapping[str, Any]:
    """What the value of `--model` states: `class_path`, and `init_args` where it is a mapping.

    Args:
        value: A class path, or a mapping in JSON or YAML, as the parser takes it.

    Raises:
        UsageError: It is neither.
    """
    try:
        loaded = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--model {value}: neither the name of a task nor a mapping in YAML or JSON") from None
    return loaded if isinstance(loaded, Mapping) else {"class_path": value}


def stated_fields(argv: Sequence[str], argument: str) -> set[str]:
    """The fields of an argument of the model, which is a mapping, that are set anywhere on a command line.

    Args:
        argv: The command line.
        argument: Name of the argument, such as `input`.
    """
    found: set[str] = set()
    for _, keys in model_layers(argv):
        if argument not in keys:
            continue
        value = keys[argument]
        if isinstance(value, str):
            value = yaml.safe_load(value)
        if value is None:  # takes back what the layers before it state
            found.clear()
        elif isinstance(value, Mapping):
            found |= value.keys()
    return found
