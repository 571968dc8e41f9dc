"""Classes that packages bring by entry points, chosen by name: trackers, propagators, architectures."""

from __future__ import annotations

import dataclasses
from functools import cache, cached_property
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar, cast

from visionkit.errors import UsageError, suggest

Kind = TypeVar("Kind")


def installed(group: str) -> EntryPoints:
    """What the installed packages offer under a name, such as `visionkit.tasks`."""
    found: EntryPoints = _every().select(group=group)
    return found


@cache
def _every() -> Any:  # its type is that of one version of Python alone
    """Looked for once in a process: each look reads a file of every package, a hundred and more."""
    return entry_points()


class Registered(Generic[Kind]):
    """The dataclasses of one group of entry points, and those that are added by `register`.

    Args:
        group: Group of the entry points, such as `visionkit.trackers`.
        what: What one of them is called in messages.
    """

    def __init__(self, group: str, what: str) -> None:
        self.group, self.what = group, what
        self._registered: dict[str, type[Kind]] = {}

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in sorted(installed(self.group))}

    def register(self, name: str, kind: type[Kind]) -> None:
        """Adds a class, or replaces one.

        Args:
            name: What the command line takes.
            kind: A dataclass, whose fields are its arguments.

        Raises:
            UsageError: The name has other characters than letters, digits and _, or the class is no dataclass.
        """
        if not name.isidentifier() or not dataclasses.is_dataclass(kind):
            raise UsageError(f"{self.what} {name!r}: needs a name of letters, digits and _ and a dataclass")
        self._registered[name] = kind


class Plugins(Registered[Kind]):
    """Classes by name, of which only the one that is chosen is imported."""

    def names(self) -> list[str]:
        """All names, sorted; imports none of the classes."""
        return sorted({*self._registered, *self._points})

    def load(self, name: str) -> type[Kind]:
        """Imports the class of that name.

        Raises:
            UsageError: There is none.
        """
        known = self.names()
        if name not in known:
            raise UsageError(f"{self.what} {name!r}: allowed are {', '.join(known)}{suggest(name, known)}")
        if name in self._registered:
            return self._registered[name]
        return cast(type[Kind], self._points[name].load())
