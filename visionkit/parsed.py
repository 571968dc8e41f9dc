"""What the parser of the command line gives, as plain values and classes."""

from __future__ import annotations

import sys
from typing import Any

from jsonargparse import Namespace

from visionkit.plain_values import plain


def imported(class_path: str) -> Any:
    """A class that is imported already, by its path."""
    module, _, name = class_path.rpartition(".")
    return getattr(sys.modules[module], name)


def init_args(side: Namespace) -> Namespace:
    """The arguments of a class; an empty set of them where none are given."""
    if side.get("init_args") is None:
        side["init_args"] = Namespace()
    arguments: Namespace = side.init_args
    return arguments


def plain_namespace(arguments: Namespace) -> dict[str, Any]:
    """Arguments as a dict of plain values."""
    out = arguments.as_dict() if isinstance(arguments, Namespace) else dict(arguments)
    return {key: value if not isinstance(value, Namespace) else plain(value.as_dict()) for key, value in out.items()}
