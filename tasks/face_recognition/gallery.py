"""People who can be recognized: names in SQLite, vectors in mapped files, together in one folder.

What SQLite has committed is the truth. An enrolment writes its vectors behind the last row that counts, flushes them,
and then commits the rows' numbers; a process that dies before that leaves bytes behind which nobody will ever read and
the next enrolment overwrites. Readers in other processes see each commit. Only embeddings are kept, never an image.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.face_recognition.gallery_database import DATABASE as DATABASE
from tasks.face_recognition.gallery_database import GalleryDatabase
from tasks.face_recognition.people import Match, Person, folded, outdated, unify
from tasks.face_recognition.vectors import MappedVectors, VectorIndex
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, suggest
from visionkit.names import normalized

FORMAT = 1


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
        self.database = GalleryDatabase(self.folder)
        if not (self.folder / DATABASE).is_file():
            if not create or model is None or width is None:
                raise DataError(f"{self.folder}: no gallery here (no {DATABASE}); enrol somebody to make one")
            self._make(model, width)
        with self.database.guarded():
            facts = dict(self.database.connection.execute("SELECT key, value FROM facts"))
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
        origins = [*sources, *[""] * len(vectors)][: len(vectors)]
        with self.database.writing() as database:
            person = database.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()
            if person and not add:
                raise UsageError(f"{name!r} is enrolled already; add the image with --add, or choose another name")
            number = person[0] if person else self._new_person(database, name)
            first = self._rows(database)
            coarse = self.index.write(first, vectors)
            database.executemany(
                "INSERT INTO vectors VALUES (?, ?, ?, ?, ?)",
                [
                    (first + k, number, origins[k], zlib.crc32(vector.tobytes()), int(coarse[k]))
                    for k, vector in enumerate(vectors)
                ],
            )
            database.execute("UPDATE facts SET value = ? WHERE key = 'rows'", (str(first + len(vectors)),))

    def remove(self, name: str) -> int:
        """Removes a person and overwrites the embeddings; the number of images that were enrolled.

        Raises:
            UsageError: Nobody of that name; the nearest is suggested.
        """
        with self.database.writing() as database:
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
        with self.database.guarded():
            rows = self.database.connection.execute(
                "SELECT name, COUNT(vectors.row), added FROM people LEFT JOIN vectors ON person = id "
                "GROUP BY id ORDER BY folded"
            )
            return [Person(*row) for row in rows]

    def has(self, name: str) -> bool:
        """Whether somebody of that name is enrolled."""
        with self.database.guarded():
            found = self.database.connection.execute(
                "SELECT 1 FROM people WHERE folded = ?", (folded(name),)
            ).fetchone()
        return found is not None

    @staticmethod
    def same(first: str, second: str) -> bool:
        """Whether two names are one person's."""
        return folded(first) == folded(second)

    def __len__(self) -> int:
        with self.database.guarded():
            return int(self.database.connection.execute("SELECT COUNT(*) FROM people").fetchone()[0])

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
        with self.database.guarded():
            rows = self.database.connection.execute(
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
        with self.database.guarded():
            message = self.database.connection.execute("PRAGMA quick_check").fetchone()[0]
            if message != "ok":
                raise DataError(f"{self.folder / DATABASE}: damaged ({message.splitlines()[0]}); restore a copy")
            rows = self.database.connection.execute("SELECT row, checksum, person FROM vectors ORDER BY row").fetchall()
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

    def close(self) -> None:
        """Closes this thread's connection; the next use opens it again."""
        self.database.close()

    # ------------------------------------------------------------------ inside

    def _make(self, model: str, width: int) -> None:
        if self.folder.is_dir() and any(path.name != DATABASE for path in self.folder.iterdir()):
            raise UsageError(f"{self.folder}: holds other files and no gallery; give a folder that is empty or new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EnvironmentFault(f"{self.folder}: cannot be made ({error.strerror})") from error
        self.database.make({"format": FORMAT, "width": width, "model": model, "rows": 0})

    def _unify_names(self) -> None:
        """Makes one person of those whose names differ in the form of their accents alone, as they were kept before."""
        with self.database.guarded():
            old = outdated(self.database.connection)
        if old:
            with self.database.writing() as database:
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
        return int(
            self.database.connection.execute("SELECT id FROM people WHERE folded = ?", (folded(name),)).fetchone()[0]
        )

    def _current(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Rows that count, coarse ones, removed ones; read again where any process has changed something."""
        with self.database.lock, self.database.guarded():
            database = self.database.connection
            version = int(database.execute("PRAGMA data_version").fetchone()[0])
            stamp = version * 2**40 + database.total_changes
            if self._state is None or self._state[0] != stamp or getattr(self.database.local, "stamp", None) != stamp:
                database.execute("BEGIN")
                try:
                    count = self._rows(database)
                    coarse = _column(database, "SELECT row FROM vectors WHERE coarse ORDER BY row")
                    removed = _column(database, "SELECT row FROM removed ORDER BY row")
                finally:
                    database.execute("COMMIT")
                self._state = stamp, count, coarse, removed
                self.database.local.stamp = stamp
            return self._state[1:]

    def _named(self, rows: np.ndarray, scores: np.ndarray) -> list[Match]:
        """The people of some rows, the most alike first, each once."""
        vectors = self.index.read(rows) if len(rows) else np.zeros((0, self.width), np.float32)
        found: dict[str, float] = {}
        with self.database.guarded():
            for row, score, vector in zip(rows.tolist(), scores.tolist(), vectors, strict=True):
                stored = self.database.connection.execute(
                    "SELECT name, checksum FROM vectors JOIN people ON person = id WHERE row = ?", (row,)
                ).fetchone()
                if stored is None:
                    continue  # removed since
                if zlib.crc32(vector.tobytes()) != stored[1]:
                    raise DataError(
                        f"{self.folder}: an embedding of {stored[0]} is damaged; `visionkit gallery list --check` "
                        "checks every file; restore a copy, or remove and enrol the person again"
                    )
                found.setdefault(stored[0], score)
        return [Match(name, score) for name, score in found.items()]

    def _check_length(self) -> None:
        with self.database.guarded():
            count = self._rows(self.database.connection)
        missing = self.index.missing(count) if isinstance(self.index, MappedVectors) else 0
        if missing:
            raise DataError(
                f"{self.folder}: its files of vectors are cut off: {missing} of {count} embeddings are missing; "
                "nothing was changed; restore a copy"
            )

    def _wipes(self) -> list[int]:
        with self.database.guarded():
            return [row[0] for row in self.database.connection.execute("SELECT row FROM removed WHERE NOT wiped")]

    def _finish_wiping(self) -> None:
        """Overwrites what was removed; begun again by whoever opens the gallery after a process died in between."""
        rows = self._wipes()
        self.index.wipe(rows)
        with self.database.writing() as database:
            database.executemany("UPDATE removed SET wiped = 1 WHERE row = ?", [(row,) for row in rows])


def _column(database: sqlite3.Connection, query: str) -> np.ndarray:
    rows: list[Any] = database.execute(query).fetchall()
    return np.array([row[0] for row in rows], np.int64)
