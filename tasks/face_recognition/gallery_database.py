"""The SQLite file of a gallery: a connection per thread, one writer at a time, failures as one line."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visionkit.errors import DataError, EnvironmentFault

DATABASE = "gallery.sqlite"
_MACHINE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
}
"""Codes of SQLite for what the machine lacks; the others state that the file is damaged."""

_WAIT = 30.0  # seconds that a writer waits for another

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS people (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, folded TEXT NOT NULL UNIQUE, added REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS vectors (
    row INTEGER PRIMARY KEY, person INTEGER NOT NULL REFERENCES people (id), source TEXT NOT NULL,
    checksum INTEGER NOT NULL, coarse INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS vectors_of ON vectors (person);
CREATE INDEX IF NOT EXISTS coarse_rows ON vectors (row) WHERE coarse;
CREATE TABLE IF NOT EXISTS removed (row INTEGER PRIMARY KEY, wiped INTEGER NOT NULL);
"""


class GalleryDatabase:
    """Names, and which rows of the vectors are whose. Safe to use from several threads and several processes.

    Args:
        folder: The gallery; `make` is called where it has no database yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.local = threading.local()

    def make(self, facts: Mapping[str, Any]) -> None:
        """Makes the tables and notes the facts; another process may have done so in the meantime.

        Args:
            facts: What a gallery states about itself.
        """
        with self.guarded():
            self.connection.executescript(_SCHEMA)
        with self.writing() as database:
            database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", [(k, str(v)) for k, v in facts.items()])
        (self.folder / DATABASE).chmod(0o600)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's own connection."""
        found: sqlite3.Connection | None = getattr(self.local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.folder / DATABASE, timeout=_WAIT, isolation_level=None)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            found.execute("PRAGMA secure_delete = ON")
            found.execute("PRAGMA foreign_keys = ON")
            self.local.connection = found
        return found

    def close(self) -> None:
        """Closes this thread's connection; the next use opens it again."""
        found = getattr(self.local, "connection", None)
        if found is not None:
            found.close()
            self.local.connection = None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """States what SQLite and the disk refuse in one line.

        Raises:
            DataError: The database is damaged.
            EnvironmentFault: Another process holds it, or the disk is full or cannot be written.
        """
        try:
            yield
        except sqlite3.OperationalError as error:
            message = str(error)
            if "locked" in message or "busy" in message:
                raise EnvironmentFault(
                    f"{self.folder}: another process has held it for {_WAIT:g} s; try again"
                ) from error
            if (error.sqlite_errorcode or 0) & 0xFF in _MACHINE:
                raise EnvironmentFault(f"{self.folder / DATABASE}: cannot be used ({message})") from error
            raise DataError(
                f"{self.folder / DATABASE}: damaged ({message}); nothing was changed; restore a copy"
            ) from error
        except OSError as error:
            raise EnvironmentFault(
                f"{self.folder}: cannot be written ({error.strerror}); nothing was changed; free some space"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.folder / DATABASE}: damaged ({error}); nothing was changed; restore a copy"
            ) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time over all processes; what it did counts when the block ends well, and only then."""
        with self.lock, self.guarded():
            database = self.connection
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a full disk has rolled it back already
                    database.execute("ROLLBACK")
                raise
