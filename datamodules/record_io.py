"""MXNet's RecordIO, `.rec` with `.idx`, in which the large face sets are handed out; read without mxnet.

A record is a magic word, its length, the bytes, and up to three bytes of filling. The bytes begin with a header (flag,
label, two numbers) and, where the flag counts labels, these. Record 0 of a face set states where the people's records
begin; each of those names the range of its images.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from visionkit.errors import DataError
from visionkit.images import ImageSource

_MAGIC = 0xCED7230A
_WORDS = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")


def is_record(path: Path) -> bool:
    """Whether the path ends as such a file does."""
    return path.suffix == ".rec"


class RecordStore:
    """Images in a `.rec` file, read where they lie.

    Args:
        path: The file.
        offsets: (n,) int64, where the record of each image begins.
        keys: (n,) int64, its key in the index; names it in messages.
    """

    def __init__(self, path: Path, offsets: np.ndarray, keys: np.ndarray) -> None:
        self.path, self.offsets, self.keys = path, offsets, keys

    def __len__(self) -> int:
        return len(self.offsets)

    def source(self, number: int) -> ImageSource:
        """The encoded image."""
        with self.path.open("rb") as file:
            _, content = _split(_record(file, int(self.offsets[number]), self.path), self.path)
        return ImageSource(content, self.name(number))

    def name(self, number: int) -> str:
        """File and key."""
        return f"{self.path}[{self.keys[number]}]"


def open_record(path: Path) -> tuple[RecordStore, np.ndarray]:
    """The images of a `.rec` file and the person of each, (n,) int64.

    Raises:
        DataError: A file is missing, or is none of this type.
    """
    keys, offsets = _index(path)
    place = dict(zip(keys.tolist(), offsets.tolist(), strict=True))
    with path.open("rb") as file:
        first, _ = _split(_record(file, place[min(place)], path), path)
        if len(first) == 2 and min(place) == 0:
            # The people's own records follow the images; each holds the range of its images' keys.
            rows, labels = [], []
            for person, key in enumerate(range(int(first[0]), int(first[1]))):
                bounds, _ = _split(_record(file, _at(place, key, path), path), path)
                if len(bounds) != 2:
                    raise DataError(f"{path}: record {key} should name a person's images and does not")
                own = list(range(int(bounds[0]), int(bounds[1])))
                rows += own
                labels += [person] * len(own)
        else:
            rows = keys.tolist()
            labels = [int(_split(_record(file, place[key], path), path)[0][0]) for key in rows]
    chosen = np.array(rows, np.int64)
    return RecordStore(path, np.array([_at(place, key, path) for key in rows]), chosen), np.array(labels, np.int64)


def _at(place: dict[int, int], key: int, path: Path) -> int:
    if key not in place:
        raise DataError(
            f"{path.with_suffix('.idx')}: no record {key}, which {path.name} refers to; download both again"
        )
    return place[key]


def _index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    index = path.with_suffix(".idx")
    for file in (path, index):
        if not file.is_file():
            raise DataError(f"{file}: no such file; a RecordIO set is a .rec file with its .idx beside it")
    try:
        table = np.loadtxt(index, dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{index}: lines of a key and an offset are expected ({str(error).splitlines()[0]})") from error
    if table.size == 0 or table.shape[1] != 2:
        raise DataError(f"{index}: lines of a key and an offset are expected")
    return table[:, 0], table[:, 1]


def _record(file: object, offset: int, path: Path) -> bytes:
    """One record whole; a record that holds the magic word itself lies in parts."""
    parts: list[bytes] = []
    file.seek(offset)  # type: ignore[attr-defined]
    while True:
        head = file.read(8)  # type: ignore[attr-defined]
        if len(head) < 8:
            raise DataError(f"{path}: ends within the record at byte {offset}; download it again")
        magic, word = _WORDS.unpack(head)
        if magic != _MAGIC:
            raise DataError(f"{path}: no record begins at byte {offset}; the .idx belongs to another file")
        flag, length = word >> 29, word & (1 << 29) - 1
        content = file.read(length)  # type: ignore[attr-defined]
        if len(content) < length:
            raise DataError(f"{path}: ends within the record at byte {offset}; download it again")
        file.seek(-length % 4, 1)  # type: ignore[attr-defined]
        parts.append(content)
        if flag in (0, 3):
            return struct.pack("<I", _MAGIC).join(parts)


def _split(record: bytes, path: Path) -> tuple[tuple[float, ...], bytes]:
    """Labels and content of a record."""
    if len(record) < _HEADER.size:
        raise DataError(f"{path}: a record of {len(record)} bytes is too short for its header")
    flag, label, _, _ = _HEADER.unpack_from(record)
    if flag == 0:
        return (label,), record[_HEADER.size :]
    if len(record) < _HEADER.size + 4 * flag:
        raise DataError(f"{path}: a record of {len(record)} bytes is too short for its {flag} labels")
    labels = struct.unpack_from(f"<{flag}f", record, _HEADER.size)
    return labels, record[_HEADER.size + 4 * flag :]
