"""Checks the stored arguments of a task against the annotations of its constructor, before it is built."""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from visionkit.errors import UsageError, suggest
from visionkit.model_facts import shown

MAX_INTEGER = 2**24
"""Largest whole number that an argument may be; identities and classes are counted in it."""

_NAMES = {bool: "true or false", int: f"a whole number from 0 to {MAX_INTEGER:,}", float: "a number", str: "a text"}


def check_arguments(built_by: Any, given: Mapping[str, Any], place: str) -> None:
    """Refuses arguments of a wrong type or out of any range.

    Args:
        built_by: Class whose constructor is annotated.
        given: The arguments, in plain types or as the dataclasses that the annotations name.
        place: Where they stand, for the message.

    Raises:
        UsageError: The key, what it holds and what is allowed.
    """
    # Fields that a dataclass inherits are annotated in the words of the module they are written in.
    hints = typing.get_type_hints(built_by if dataclasses.is_dataclass(built_by) else built_by.__init__)
    hints = {name: hints.get(name, Any) for name in inspect.signature(built_by.__init__).parameters if name != "self"}
    for key, value in given.items():
        if key not in hints:
            raise UsageError(f"{place}{key}: this version does not know it{suggest(key, hints)}")
        _check(hints[key], value, f"{place}{key}")


def at_least(place: str, least: float, **values: float) -> None:
    """Refuses arguments below a minimum.

    Raises:
        UsageError: Names the argument.
    """
    for name, value in values.items():
        if value < least:
            raise UsageError(f"{place}.{name} {value}: must be at least {least:g}")


def _check(hint: Any, value: Any, place: str) -> None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    fitting = [option for option in options if _is_kind(option, value)]
    if not fitting:
        allowed = " or ".join(dict.fromkeys(_message(option) for option in options))
        raise UsageError(f"{place}: {shown(value)} is not {allowed}")
    _check_inside(fitting[0], value, place)


def _is_kind(hint: Any, value: Any) -> bool:
    """Whether a value is of the type, without processing what it holds."""
    origin = typing.get_origin(hint) or hint
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is typing.Literal:
        return any(type(value) is type(each) and value == each for each in typing.get_args(hint))
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is str:
        return isinstance(value, str)
    if dataclasses.is_dataclass(origin):
        return isinstance(value, (Mapping, typing.cast(type, origin)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, (list, tuple))
    return not isinstance(origin, type) or isinstance(value, origin)


def _check_inside(hint: Any, value: Any, place: str) -> None:
    inner, origin = typing.get_args(hint), typing.get_origin(hint) or hint
    if isinstance(value, Mapping) and dataclasses.is_dataclass(origin):
        check_arguments(typing.cast(type, origin), value, f"{place}.")
    elif isinstance(value, Mapping) and len(inner) == 2:
        for key, each in value.items():
            _check(inner[1], each, f"{place}.{key}")
    elif isinstance(value, (list, tuple)) and inner:
        if origin is tuple and Ellipsis not in inner and len(inner) != len(value):
            raise UsageError(f"{place}: {len(inner)} values are needed, not {len(value)}")
        for number, each in enumerate(value):
            kind = inner[number] if origin is tuple and Ellipsis not in inner else inner[0]
            if kind is not str or not isinstance(each, str):  # a million class names
                _check(kind, each, f"{place}.{number}")


def _message(hint: Any) -> str:
    origin = typing.get_origin(hint) or hint
    if hint is None or hint is type(None):
        return "null"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if hint in _NAMES:
        return _NAMES[hint]
    return "a list" if isinstance(origin, type) and issubclass(origin, Sequence) else "an object"
