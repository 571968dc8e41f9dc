"""Images inside a zip archive, read one by one without unpacking; any number of workers may read at once."""

from __future__ import annotations

import functools
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionkit.errors import DataError
from visionkit.images import ImageSource

_LARGEST = 2**29  # bytes of one member; larger ones are no images but an attack
_STORED, _DEFLATED = 0, 8


class ZipIndex(NamedTuple):
    """The directory of an archive.

    Attributes:
        names: Paths inside the archive.
        entries: (n, 5) int64: offset of the local header, packed size, size, method, crc-32.
    """

    names: list[str]
    entries: np.ndarray


def zip_index(path: Path) -> ZipIndex:
    """Reads the directory of an archive, once for each state of the file.

    Raises:
        DataError: Not a zip archive, or one that is encrypted.
    """
    try:
        state = path.stat()
    except OSError:
        raise DataError(f"{path}: no such file") from None
    return _read_index(str(path), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _read_index(path: str, changed: int, size: int) -> ZipIndex:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a zip archive, or a damaged one ({error})") from None
    if any(member.flag_bits & 1 for member in members):
        raise DataError(f"{path}: the archive is encrypted; unpack it and give the folder")
    entries = [
        (each.header_offset, each.compress_size, each.file_size, each.compress_type, each.CRC) for each in members
    ]
    return ZipIndex([each.filename for each in members], np.array(entries, dtype=np.int64).reshape(-1, 5))


class ZipStore:
    """Members of a zip archive as images.

    Args:
        path: The archive.
        members: Numbers of the members in `zip_index(path)`.
    """

    def __init__(self, path: Path, members: np.ndarray) -> None:
        self.path = path
        index = zip_index(path)
        # Plain blocks of memory: a list of names would be copied into every worker, reference count by count.
        self.names = np.array([os.fsencode(index.names[k]) for k in members], dtype=np.bytes_)
        self.entries = index.entries[members]
        self._file = -1

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_file": -1}

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def source(self, number: int) -> ImageSource:
        """One image, still encoded."""
        return ImageSource(self._read(number), self.name(number))

    def name(self, number: int) -> str:
        """Archive and member."""
        return f"{self.path}/{os.fsdecode(self.names[number])}"

    def _read(self, number: int) -> bytes:
        if self._file < 0:
            # `pread` has no position of its own, so forked workers may share the open file.
            self._file = os.open(self.path, os.O_RDONLY)
        offset, packed, size, method, crc = (int(value) for value in self.entries[number])
        if size > _LARGEST or method not in (_STORED, _DEFLATED):
            raise DataError(f"{self.name(number)}: {size} bytes packed by method {method}; unpack the archive instead")
        header = os.pread(self._file, 30, offset)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise DataError(f"{self.name(number)}: the archive is damaged here")
        name, extra = struct.unpack("<HH", header[26:30])
        data = os.pread(self._file, packed, offset + 30 + name + extra)
        try:
            content = data if method == _STORED else zlib.decompressobj(-15).decompress(data, size)
        except zlib.error as error:
            raise DataError(f"{self.name(number)}: the archive is damaged here ({error})") from None
        if len(content) != size or zlib.crc32(content) != crc:
            raise DataError(f"{self.name(number)}: the archive is damaged here (checksum)")
        return content
