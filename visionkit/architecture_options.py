"""Arguments of architectures on the command line: those of another one than the chosen are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visionkit.errors import UsageError
from visionkit.model_layers import TYPED, model_layers


def settle(task: Any, arguments: Any, argv: Sequence[str]) -> None:
    """Leaves the arguments of the chosen architecture alone.

    A later file, or an option, that chooses another architecture takes the place of the one before with its arguments.

    Args:
        task: Class of the model.
        arguments: Its parsed arguments; changed.
        argv: The command line that they come from, files and checkpoints included.

    Raises:
        UsageError: Arguments of another architecture are set where the chosen one is chosen, or after it.
    """
    registry = getattr(task, "architectures", None)
    if registry is None:
        return
    chosen, last = arguments.get("architecture"), _layers(argv)
    if chosen not in registry:
        registry.choose(chosen, {})
    for name in registry:
        if name != chosen and arguments.get(name) is not None:
            if last.get(name, TYPED) >= last.get("architecture", -1):
                raise UsageError(registry.foreign(name, chosen))
            arguments[name] = None


def _layers(argv: Sequence[str]) -> dict[str, int]:
    """For each argument of the model the number of the last layer of the configuration that sets it."""
    last: dict[str, int] = {}
    for number, keys in model_layers(argv):
        last.update(dict.fromkeys((key for key, set_ in keys.items() if number == TYPED or set_ is not None), number))
    return last
