"""The whole signature of a task's constructor: its own arguments, those it hands on, and one for each architecture.

A task writes `**shared` for the arguments that its base declares. Whoever asks for a signature (the command line, the
checkpoints, the heads of a joint model) sees all of them.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal

from visionkit.errors import UsageError, suggest
from visionkit.renamed import new_names


def complete(cls: Any) -> inspect.Signature:
    """Gives the constructor of a class its whole signature, once and after each registration of an architecture.

    Args:
        cls: A task.

    Returns:
        The signature of `cls.__init__`, `self` included.
    """
    init, registry = cls.__init__, getattr(cls, "architectures", None)
    state = getattr(registry, "version", None)
    if init.__dict__.get("completed") == (state, cls):
        return init.__signature__  # type: ignore[no-any-return]
    hints: dict[str, Any] = {}
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = vars(base)["__init__"]
        written = own.__dict__.setdefault("written", (inspect.signature(own), dict(own.__annotations__)))
        types = _types(own, written[1])
        parameters = written[0].parameters.values()
        for each in parameters:
            if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) and each.name not in found:
                found[each.name] = each if not found else each.replace(kind=each.kind if own is init else _KEYWORD)
                hints[each.name] = types.get(each.name, Any)
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            break
    if registry is not None:
        hints["architecture"] = Literal[tuple(registry)]
        for name, kind in registry.items():
            if name in found and found[name].default is not None:
                raise UsageError(f"architecture {name}: {cls.__name__} has an argument of that name; choose another")
            found[name] = inspect.Parameter(name, _KEYWORD, default=None, annotation=kind | None)
            hints[name] = kind | None
    for name in getattr(cls, "withheld", ()):
        found.pop(name, None)
    whole = [each.replace(annotation=hints[name]) if name in hints else each for name, each in found.items()]
    init.__signature__ = inspect.Signature(whole)
    init.__annotations__ = {name: hint for name, hint in hints.items() if name != "self"}
    init.completed = (state, cls)
    _forget(cls)
    return init.__signature__  # type: ignore[no-any-return]


def _forget(cls: Any) -> None:
    """Drops the parser that jsonargparse keeps of a class whose arguments have changed."""
    kept = getattr(sys.modules.get("jsonargparse._typehints"), "_cached_class_parsers", {})
    for key in [each for each in kept if each[0] is cls]:
        del kept[key]


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _types(function: Any, annotations: Mapping[str, Any]) -> dict[str, Any]:
    kept = function.__annotations__
    function.__annotations__ = dict(annotations)
    try:
        return typing.get_type_hints(function)
    finally:
        function.__annotations__ = kept


def check_known(cls: Any, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that a task does not have.

    Raises:
        UsageError: Names the argument and what there is.
    """
    known = complete(cls).parameters
    for key in arguments:
        if key not in known:
            raise UsageError(f"model.{key}: {unknown(cls, key)}")


def unknown(cls: Any, argument: str) -> str:
    """Why a task does not have an argument, and where one of that name stands."""
    names = [name for name in complete(cls).parameters if name != "self"]
    registry = getattr(cls, "architectures", None)
    if registry is not None and (owners := registry.owners(argument)):
        where = " or ".join(f"model.{name}.{argument}" for name in owners)
        return f"{cls.__name__} has no such argument; it belongs to an architecture: {where}"
    if today := new_names(getattr(cls, "name", ""), argument):
        return f"{cls.__name__} has no such argument; it is called {' or '.join(today)} today"
    return f"{cls.__name__} has no such argument{suggest(argument, names) or '; it has ' + ', '.join(sorted(names))}"
