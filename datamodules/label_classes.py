"""Labels of whole images that are written image by image: rows of a csv file, or folders named after the classes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.class_names import index_classes
from datamodules.label_store import LabelStore, digest_of, stamp_of
from datamodules.object_entries import AnnotatedImage, known_scores
from datamodules.object_writers import Losses
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.listing import is_hidden
from visionkit.skeleton import Skeleton
from visionkit.text_files import read_csv

_COLUMNS = ["path", "label", "score"]


class CsvStore(LabelStore):
    """`labels.csv` with the columns path, label and score, and `images/`."""

    images = Path("images")

    def __init__(self, out: Path, classes: Sequence[str], skeleton: Skeleton | None, losses: Losses) -> None:
        super().__init__(out, classes, skeleton, losses)
        self.path = out / "labels.csv"
        self._rows: dict[str, list[str]] = {}
        self._header = _COLUMNS
        self._pending: dict[str, list[str]] = {}
        self._stamp: tuple[int, int] | None = None

    def content(self, name: str) -> str | None:
        self._renew()
        row = self._rows.get(self._key(name))
        return None if row is None else "\n".join(row)

    def read(self, name: str) -> AnnotatedImage:
        self._renew()
        cells = dict(zip(self._header, self._rows[self._key(name)], strict=True))
        return _entry(self.image(name), cells["label"], cells.get("score", ""), self.classes)

    def put(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        self._renew()
        score = "" if entry.scores is None or np.isnan(entry.scores[0]) else repr(float(entry.scores[0]))
        known = dict.fromkeys(self._header, "")
        row = {**known, "path": self._key(name), "label": self.classes[entry.labels[0]], "score": score}
        self._pending[name] = [row[column] for column in self._header]
        return digest_of("\n".join(self._pending[name]))

    def flush(self) -> None:
        if not self._pending:
            return
        self._renew()
        self._rows |= {self._key(name): row for name, row in self._pending.items()}
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self._header, *self._rows.values()])
        self.write(self.path, text.getvalue())
        self._pending, self._stamp = {}, stamp_of(self.path)

    def _key(self, name: str) -> str:
        return (self.images / name).as_posix()

    def _renew(self) -> None:
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return
        self._rows, self._header, self._stamp = {}, _COLUMNS, stamp
        if stamp is None:
            return
        (_, self._header), *rows = read_csv(self.path)
        if not {"path", "label"} <= set(self._header):
            raise DataError(f"{self.path} line 1: the columns path and label are needed")
        for number, row in rows:
            if len(row) != len(self._header):
                raise DataError(f"{self.path} line {number}: {len(row)} cells where the header has {len(self._header)}")
            self._rows[row[self._header.index("path")]] = row


class FolderStore(LabelStore):
    """One folder per class, which holds its images; moving an image into another folder corrects it."""

    images = Path(".new")  # hidden, so that an image that has no class yet is not read as one

    def __init__(self, out: Path, classes: Sequence[str], skeleton: Skeleton | None, losses: Losses) -> None:
        super().__init__(out, classes, skeleton, losses)
        self._pending: dict[str, str] = {}
        for name in classes:
            if is_hidden(name) or "/" in name or "\\" in name:
                raise UsageError(f"--format folders: class {name!r} cannot name a folder; use csv")

    def image(self, name: str) -> Path:
        found = self.content(name)
        return super().image(name) if found is None else self.out / found / name

    def content(self, name: str) -> str | None:
        return next((each for each in self.classes if (self.out / each / name).is_file()), None)

    def read(self, name: str) -> AnnotatedImage:
        path = self.image(name)
        return _entry(path, path.parent.name, "", self.classes)

    def put(self, name: str, entry: AnnotatedImage, size: tuple[int, int], reviewed: bool) -> str:
        self._pending[name] = label = self.classes[entry.labels[0]]
        return digest_of(label)

    def flush(self) -> None:
        for name, label in self._pending.items():
            path = self.out / label / name
            try:
                path.parent.mkdir(exist_ok=True)
                self.image(name).replace(path)
            except OSError as error:
                raise EnvironmentFault(f"{path}: cannot be written ({error.strerror or error})") from error
        self._pending = {}


def _entry(path: Path, label: str, score: str, classes: Sequence[str]) -> AnnotatedImage:
    number = index_classes({label: str(path)}, classes)[label]
    return AnnotatedImage(str(path), str(path), np.zeros((1, 4)), np.array([number]), scores=known_scores([score]))
