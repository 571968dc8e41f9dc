"""The one family of expected failures, each with the exit status the command line ends with.

An expected failure is reported in one line: what was given, which file or key, what is allowed, what to do. Anything
that is not a `VisionKitError` is a defect and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class VisionKitError(Exception):
    """Base of every expected failure; `status` is the exit status of the command that met it."""

    status = 1

    def __init__(self, message: str = "") -> None:
        # A loading process hands an error over wrapped in its traceback; the one line is at the end.
        if message.startswith("Caught ") and "Original Traceback" in message:
            message = message.rpartition(f"{type(self).__module__}.{type(self).__qualname__}: ")[2].strip()
        super().__init__(message)


class UsageError(VisionKitError):
    """A flag, a yaml key or an argument is wrong."""

    status = 2


class DataError(VisionKitError):
    """An image, a label file or a folder is wrong or missing."""

    status = 3


class MissingSplit(DataError):
    """The data names no such split."""


class CheckpointError(VisionKitError):
    """A checkpoint, a bundle or a model file cannot be used."""

    status = 4


class EnvironmentFault(VisionKitError):
    """The machine lacks something: disk, port, device, network."""

    status = 5


class Diverged(VisionKitError):
    """Training met non-finite losses and was stopped."""

    status = 6


class Interrupted(VisionKitError):
    """Stopped from the keyboard."""

    status = 130


class Terminated(VisionKitError):
    """Stopped by a signal, after a checkpoint was saved."""

    status = 143


def some_of(names: Sequence[str], limit: int = 4) -> str:
    """The first `limit` names, and how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def suggest(name: str, choices: Iterable[str]) -> str:
    """States which of `choices` is nearest to `name`.

    Args:
        name: What was given.
        choices: What is allowed.

    Returns:
        `"; did you mean 'x'?"` (up to three names), or an empty string where nothing is near. Made to be put at the end
        of a message.
    """
    lowered = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    if not near:
        return ""
    return "; did you mean " + " or ".join(repr(lowered[match]) for match in near) + "?"
