"""Values of options of the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from visionkit.errors import UsageError


def named_values(given: Sequence[str], option: str, example: str) -> dict[str, Any]:
    """`NAME=VALUE` as keyword arguments; a value is json where it can be read as such, otherwise text.

    Args:
        given: What was given.
        option: Name of the option, for messages.
        example: What could be given.

    Raises:
        UsageError: Not of this form.
    """
    options: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} {each}: give NAME=VALUE, such as {example}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options
