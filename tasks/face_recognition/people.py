"""People by their names: what makes two names one person's, and galleries that were made before it did."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from visionkit.names import normalized


class Person(NamedTuple):
    """One who is enrolled.

    Attributes:
        name: Name, as it was given.
        images: How many were enrolled.
        added: When first, in seconds since 1970.
    """

    name: str
    images: int
    added: float


class Match(NamedTuple):
    """Somebody who is like a face.

    Attributes:
        name: Who.
        similarity: Cosine with the nearest of the person's images, -1 to 1.
    """

    name: str
    similarity: float


def folded(name: str) -> str:
    """What names are compared by: composed, without case, with single spaces."""
    return normalized(" ".join(normalized(name).casefold().split()))


def outdated(database: sqlite3.Connection) -> list[tuple[int, str]]:
    """Number and name of the people whose name was folded before accents were composed."""
    query = "SELECT id, name, folded FROM people WHERE folded GLOB '*[^ -~]*' ORDER BY id"
    return [(row[0], row[1]) for row in database.execute(query) if folded(row[1]) != row[2]]


def unify(database: sqlite3.Connection, people: Sequence[tuple[int, str]]) -> None:
    """Folds names again; a person whose name somebody has already becomes that person.

    Args:
        database: Within a transaction.
        people: See `outdated`.
    """
    for number, name in people:
        same = database.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()
        if same:
            database.execute("UPDATE vectors SET person = ? WHERE person = ?", (same[0], number))
            database.execute("DELETE FROM people WHERE id = ?", (number,))
        else:
            values = (normalized(name), folded(name), number)
            database.execute("UPDATE people SET name = ?, folded = ? WHERE id = ?", values)
