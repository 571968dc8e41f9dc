"""Arguments as plain values and back: what json and `weights_only=True` know, and the dataclasses they stand for."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def plain(value: Any) -> Any:
    """The same value in types that json and `weights_only=True` know.

    Raises:
        TypeError: A value that has no such form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{type(value).__name__} cannot be stored in a checkpoint; give a task plain values and dataclasses"
    )


def typed(hint: Any, value: Any) -> Any:
    """Makes the dataclass that the annotation names out of its mapping."""
    if not isinstance(value, Mapping):
        return value
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate(**value)
    return value


def without_none(value: Any) -> Any:
    """The same value without the entries of mappings that are None, at any depth."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return value
