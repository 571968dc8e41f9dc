"""Class names are configuration; what a label file or a folder states is checked against them, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from visionkit.errors import DataError, suggest
from visionkit.refusals import refuse

_LONGEST = 300  # characters of a name or a path in a message


def index_classes(found: Mapping[str, str], classes: Sequence[str]) -> dict[str, int]:
    """Maps the class names of some data to label numbers.

    Args:
        found: Every class name in the data, with the place where it stands first ("labels.csv line 7").
        classes: The configured names in label order.

    Returns:
        Label number by name; while data is examined, unknown names are numbered behind the configured ones.

    Raises:
        DataError: A name that is not configured; states where, and the nearest that is.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    for name, place in found.items():
        if name not in numbers:
            error = DataError(
                f"{place}: class {name[:_LONGEST]!r} is not among data.classes ({shorten(classes)})"
                f"{suggest(name, classes)}"
            )
            refuse("unknown-class", error)
            numbers[name] = len(numbers)
    return numbers


def shorten(names: Iterable[str], most: int = 10) -> str:
    """The first few of many names, and how many there are."""
    listed = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..." for name in names]
    if len(listed) <= most:
        return ", ".join(listed)
    return ", ".join(listed[:most]) + f", ... {len(listed)} in all"


def first_duplicate(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
