"""People who can be recognized: names in SQLite, vectors in mapped files, together in one folder.

What SQLite has committed is the truth. An enrolment writes its vectors behind the last row that counts, flushes them,
and then commits the rows' numbers; a process that dies before that leaves bytes behind which nobody will ever read and
the next enrolment overwrites. Readers in other processes see each commit. Only embeddings are kept, never an image.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.face_recognition.people import Match, Person, folded, outdated, unify
from tasks.face_recognition.vectors import MappedVectors, VectorIndex
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, suggest
from visionkit.names import normalized

FORMAT = 1
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


class Gallery:
    """People and their embeddings in a folder. Safe to use from several threads and several processes.

    Args:
        folder: The gallery.
        model: Fingerprint of the model whose embeddings these are, see `tasks.face_recognition.chain`; left out, the
            gallery can be listed and people removed, and nothing else.
        width: Width of the embeddings; needed to make a gallery.
        create: Make the gallery where there is none.
        index: Makes the place for the vectors; by default files in the folder.

    Raises:
        DataError: There is no gallery, or it is damaged. Nothing is changed then.
        CheckpointError: It was made by another model.

    Example:
        >>> gallery = Gallery("people", model=chain.fingerprint, width=128, create=True)
        >>> gallery.enrol("Ada", embeddings)
        >>> gallery.identify(embedding[None])[0]
        [Match(name='Ada', similarity=0.83)]
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | None = None,
        width: int | None = None,
        create: bool = False,
        index: Callable[[Path, int], VectorIndex] = MappedVectors,
    ) -> None:
        self.folder, self.model = Path(folder), model
        self._local, self._lock = threading.local(), threading.Lock()
        if not (self.folder / DATABASE).is_file():
            if not create or model is None or width is None:
                raise DataError(f"{self.folder}: no gallery here (no {DATABASE}); enrol somebody to make one")
            self._make(model, width)
        with self._guarded():
            facts = dict(self._connection.execute("SELECT key, value FROM facts"))
        try:
            form, own_width, own_model = int(facts["format"]), int(facts["width"]), facts["model"]
        except (KeyError, ValueError):
            raise DataError(f"{self.folder / DATABASE}: not a gallery of visionkit, or damaged") from None
        if form > FORMAT:
            raise DataError(f"{self.folder}: format {form} is newer than this visionkit reads ({FORMAT}); update it")
        if model is not None and model != own_model:
            raise CheckpointError(
                f"{self.folder}: made by another model ({own_model[:12]}; this one is {model[:12]}), whose embeddings "
                "cannot be compared; use that model, or enrol into another folder"
            )
        self.width = own_width
        self.index = index(self.folder, own_width)
        self._state: tuple[int, int, np.ndarray, np.ndarray] | None = None
        self._check_length()
        self._unify_names()
        if self._wipes():
            self._finish_wiping()

    # ------------------------------------------------------------------ changing

    def enrol(self, name: str, embeddings: np.ndarray, sources: Sequence[str] = (), add: bool = False) -> None:
        """Adds a person. When it returns, the person is there whatever happens next.

        Args:
            name: Who; compared without case, surrounding space and the form that accents are written in.
            embeddings: (n, D) of length 1, one per image.
            sources: Where the images came from, for the list.
            add: The person may be there already and gets further images.

        Raises:
            UsageError: No name, or a name that already exists.
            ValueError: Embeddings of another width, or not of length 1.
        """
        self._needs_model()
        name, vectors = " ".join(normalized(name).split()), np.asarray(embeddings, np.float32)
        if not name:
            raise UsageError("a person needs a name")
        if vectors.ndim != 2 or len(vectors) == 0 or vectors.shape[1] != self.width:
            raise ValueError(f"embeddings of shape (n, {self.width}) are required, not {vectors.shape}")
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
            raise ValueError("embeddings are required of length 1 and finite")
        message = [*sources, *[""] * len(vectors)][: len(vectors)]
        with self._writing() as database:
            person = database.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()
            if person and not add:
                raise UsageError(f"{name!r} is enrolled already; add the image with --add, or choose another name")
            number = person[0] if person else self._new_person(database, name)
            first = self._rows(database)
            coarse = self.index.write(first, vectors)
            database.executemany(
                "INSERT INTO vectors VALUES (?, ?, ?, ?, ?)",
                [
                    (first + k, number, message[k], zlib.crc32(vector.tobytes()), int(coarse[k]))
                    for k, vector in enumerate(vectors)
                ],
            )
            database.execute("UPDATE facts SET value = ? WHERE key = 'rows'", (str(first + len(vectors)),))

    def remove(self, name: str) -> int:
        """Removes a person and overwrites the embeddings; the number of images that were enrolled.

        Raises:
            UsageError: Nobody of that name; the nearest is suggested.
        """
        with self._writing() as database:
            found = database.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()
            if not found:
                known = [row[0] for row in database.execute("SELECT name FROM people")]
                raise UsageError(f"nobody is enrolled as {name!r}{suggest(name, known)}")
            rows = [row[0] for row in database.execute("SELECT row FROM vectors WHERE person = ?", found)]
            database.executemany("INSERT INTO removed VALUES (?, 0)", [(row,) for row in rows])
            database.execute("DELETE FROM vectors WHERE person = ?", found)
            database.execute("DELETE FROM people WHERE id = ?", found)
        self._finish_wiping()
        return len(rows)

    # ------------------------------------------------------------------ asking

    def people(self) -> list[Person]:
        """Who is enrolled, by name."""
        with self._guarded():
            rows = self._connection.execute(
                "SELECT name, COUNT(vectors.row), added FROM people LEFT JOIN vectors ON person = id "
                "GROUP BY id ORDER BY folded"
            )
            return [Person(*row) for row in rows]

    def has(self, name: str) -> bool:
        """Whether somebody of that name is enrolled."""
        with self._guarded():
            found = self._connection.execute("SELECT 1 FROM people WHERE folded = ?", (folded(name),)).fetchone()
        return found is not None

    @staticmethod
    def same(first: str, second: str) -> bool:
        """Whether two names are one person's."""
        return folded(first) == folded(second)

    def __len__(self) -> int:
        with self._guarded():
            return int(self._connection.execute("SELECT COUNT(*) FROM people").fetchone()[0])

    def identify(self, embeddings: np.ndarray, k: int = 1) -> list[list[Match]]:
        """Who is most like each face; the caller compares with a threshold.

        Args:
            embeddings: (Q, D) of length 1.
            k: How many people, at most.

        Returns:
            For each face up to k people, the most alike first.

        Raises:
            DataError: An embedding that was found is not the one that was enrolled: the file is damaged.
        """
        self._needs_model()
        queries = np.asarray(embeddings, np.float32).reshape(-1, self.width)
        predictions: list[list[Match]] = [[] for _ in queries]
        todo, take = list(range(len(queries))), k
        while todo:
            count, coarse, removed = self._current()
            rows, scores = self.index.search(queries[todo], take, count, coarse, removed)
            again = []
            for place, number in enumerate(todo):
                found = self._named(rows[place], scores[place])
                predictions[number] = found[:k]
                # Several images of one person may fill the first places.
                if len(found) < k and rows.shape[1] == take:
                    again.append(number)
            todo, take = again, 4 * take
        return predictions

    def similarity(self, name: str, embedding: np.ndarray) -> float:
        """Cosine of a face with the nearest image of one person.

        Raises:
            UsageError: Nobody of that name.
        """
        self._needs_model()
        with self._guarded():
            rows = self._connection.execute(
                "SELECT row FROM vectors JOIN people ON person = id WHERE folded = ?", (folded(name),)
            ).fetchall()
        if not rows:
            raise UsageError(f"nobody is enrolled as {name!r}{suggest(name, [each.name for each in self.people()])}")
        vectors = self.index.read(np.array([row[0] for row in rows]))
        return float((vectors @ np.asarray(embedding, np.float32)).max())

    def check(self) -> int:
        """Compares every embedding with its checksum, and asks SQLite for its own; the number of embeddings.

        Raises:
            DataError: States whose are damaged.
        """
        with self._guarded():
            message = self._connection.execute("PRAGMA quick_check").fetchone()[0]
            if message != "ok":
                raise DataError(f"{self.folder / DATABASE}: damaged ({message.splitlines()[0]}); restore a copy")
            rows = self._connection.execute("SELECT row, checksum, person FROM vectors ORDER BY row").fetchall()
        self._check_length()
        wrong: set[int] = set()
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            vectors = self.index.read(np.array([row[0] for row in some]))
            wrong |= {
                row[2] for row, vector in zip(some, vectors, strict=True) if zlib.crc32(vector.tobytes()) != row[1]
            }
        if wrong:
            names = [each.name for each in self.people() if self._number(each.name) in wrong]
            raise DataError(
                f"{self.folder}: the embeddings of {', '.join(names[:5])}{' and others' if len(names) > 5 else ''} are "
                "damaged; restore a copy, or remove and enrol them again"
            )
        return len(rows)

    # ------------------------------------------------------------------ inside

    @property
    def _connection(self) -> sqlite3.Connection:
        """This thread's own connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.folder / DATABASE, timeout=_WAIT, isolation_level=None)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            found.execute("PRAGMA secure_delete = ON")
            found.execute("PRAGMA foreign_keys = ON")
            self._local.connection = found
        return found

    def close(self) -> None:
        """Closes this thread's connection; the next use opens it again."""
        found = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
            self._local.connection = None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
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
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time over all processes; what it did counts when the block ends well, and only then."""
        with self._lock, self._guarded():
            database = self._connection
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a full disk has rolled it back already
                    database.execute("ROLLBACK")
                raise

    def _make(self, model: str, width: int) -> None:
        if self.folder.is_dir() and any(path.name != DATABASE for path in self.folder.iterdir()):
            raise UsageError(f"{self.folder}: holds other files and no gallery; give a folder that is empty or new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EnvironmentFault(f"{self.folder}: cannot be made ({error.strerror})") from error
        with self._guarded():
            self._connection.executescript(_SCHEMA)
        with self._writing() as database:
            facts = {"format": FORMAT, "width": width, "model": model, "rows": 0}
            database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", [(k, str(v)) for k, v in facts.items()])
        (self.folder / DATABASE).chmod(0o600)

    def _unify_names(self) -> None:
        """Makes one person of those whose names differ in the form of their accents alone, as they were kept before."""
        with self._guarded():
            old = outdated(self._connection)
        if old:
            with self._writing() as database:
                unify(database, old)

    def _needs_model(self) -> None:
        if self.model is None:
            raise UsageError(f"{self.folder}: opened without a model; embeddings mean nothing without theirs")

    @staticmethod
    def _new_person(database: sqlite3.Connection, name: str) -> int:
        done = database.execute(
            "INSERT INTO people (name, folded, added) VALUES (?, ?, ?)", (name, folded(name), time.time())
        )
        return int(done.lastrowid or 0)

    @staticmethod
    def _rows(database: sqlite3.Connection) -> int:
        return int(database.execute("SELECT value FROM facts WHERE key = 'rows'").fetchone()[0])

    def _number(self, name: str) -> int:
        return int(self._connection.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()[0])

    def _current(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Rows that count, coarse ones, removed ones; read again where any process has changed something."""
        with self._lock, self._guarded():
            database = self._connection
            version = int(database.execute("PRAGMA data_version").fetchone()[0])
            stamp = version * 2**40 + database.total_changes
            if self._state is None or self._state[0] != stamp or getattr(self._local, "stamp", None) != stamp:
                database.execute("BEGIN")
                try:
                    count = self._rows(database)
                    coarse = _column(database, "SELECT row FROM vectors WHERE coarse ORDER BY row")
                    removed = _column(database, "SELECT row FROM removed ORDER BY row")
                finally:
                    database.execute("COMMIT")
                self._state = stamp, count, coarse, removed
                self._local.stamp = stamp
            return self._state[1:]

    def _named(self, rows: np.ndarray, scores: np.ndarray) -> list[Match]:
        """The people of some rows, the most alike first, each once."""
        vectors = self.index.read(rows) if len(rows) else np.zeros((0, self.width), np.float32)
        found: dict[str, float] = {}
        with self._guarded():
            for row, score, vector in zip(rows.tolist(), scores.tolist(), vectors, strict=True):
                message = self._connection.execute(
                    "SELECT name, checksum FROM vectors JOIN people ON person = id WHERE row = ?", (row,)
                ).fetchone()
                if message is None:
                    continue  # removed since
                if zlib.crc32(vector.tobytes()) != message[1]:
                    raise DataError(
                        f"{self.folder}: an embedding of {message[0]} is "
                        f"damaged; "
                        f"`visionkit "
                        f"gallery "
                        f"list "
                        f"--check` "
                        f"checks every file; restore a copy, or remove and enrol the person again"
                    )
                found.setdefault(message[0], score)
        return [Match(name, score) for name, score in found.items()]

    def _check_length(self) -> None:
        with self._guarded():
            count = self._rows(self._connection)
        missing = self.index.missing(count) if isinstance(self.index, MappedVectors) else 0
        if missing:
            raise DataError(
                f"{self.folder}: its files of vectors are cut off: {missing} of {count} embeddings are missing; "
                "nothing was changed; restore a copy"
            )

    def _wipes(self) -> list[int]:
        with self._guarded():
            return [row[0] for row in self._connection.execute("SELECT row FROM removed WHERE NOT wiped")]

    def _finish_wiping(self) -> None:
        """Overwrites what was removed; begun again by whoever opens the gallery after a process died in between."""
        rows = self._wipes()
        self.index.wipe(rows)
        with self._writing() as database:
            database.executemany("UPDATE removed SET wiped = 1 WHERE row = ?", [(row,) for row in rows])


def _column(database: sqlite3.Connection, query: str) -> np.ndarray:
    rows: list[Any] = database.execute(query).fetchall()
    return np.array([row[0] for row in rows], np.int64)
