"""What a reader refuses although it could go on without the entry: raised, or kept while data is examined.

A training stops at the first wrong label, which is right: nobody trains on a guess. An examination of the data needs
all of them, so a reader calls `refuse` where it can pass over an entry, and `kept_refusals` decides what that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from visionkit.errors import DataError


class Refusal(NamedTuple):
    """An entry that a reader refuses.

    Attributes:
        kind: What is wrong with it, a name of `visionkit.checkup.kinds`.
        error: What the reader states about it.
    """

    kind: str
    error: DataError


_kept: ContextVar[list[Refusal] | None] = ContextVar("kept_refusals", default=None)


def refuse(kind: str, error: DataError) -> None:
    """Raises the error; within `kept_refusals` it is kept instead, and the caller passes over the entry.

    Args:
        kind: See `Refusal`.
        error: The error of a training that meets the entry.
    """
    kept = _kept.get()
    if kept is None:
        raise error
    kept.append(Refusal(kind, error))


def repaired(kind: str, message: str) -> None:
    """Keeps, within `kept_refusals`, what a reader repairs without a word.

    Args:
        kind: See `Refusal`.
        message: What is wrong, and where.
    """
    kept = _kept.get()
    if kept is not None:
        kept.append(Refusal(kind, DataError(message)))


@contextmanager
def kept_refusals() -> Iterator[list[Refusal]]:
    """Readers go on behind entries that they would refuse; gives the list of what they refused so far."""
    kept: list[Refusal] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)
