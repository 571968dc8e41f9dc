"""Reads parts of files, here or behind an address (`s3://`, `gs://`, `https://`), with a bounded cache."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.shard_format import shard_name
from visionkit.errors import DataError, EnvironmentFault

_OPEN = 64
"""Files that a process keeps open; a system allows some hundred."""


def is_address(root: str) -> bool:
    """Whether that is an address of files elsewhere and not a folder of this machine."""
    return "://" in root


class Files:
    """The files of one folder, here or elsewhere.

    Args:
        root: The folder, or an address that fsspec knows.

    Raises:
        EnvironmentFault: The package for that kind of address is not installed.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._process, self._filesystem = -1, None
        self._opened: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        if is_address(root):
            self._remote()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def __del__(self) -> None:
        for number in getattr(self, "_opened", {}).values():
            os.close(number)

    def path(self, name: str) -> str:
        """Names a file, for messages too."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            DataError: There is none.
            EnvironmentFault: It cannot be reached.
        """
        return self._attempt(name, lambda remote: remote.cat_file(self.path(name)), Path(self.path(name)).read_bytes)

    def part(self, name: str, offset: int, size: int) -> bytes:
        """Some bytes of a file; any number of processes and threads may read at once.

        Args:
            name: Name of the file.
            offset: First byte.
            size: Number of bytes.

        Raises:
            DataError: There is no such file.
            EnvironmentFault: It cannot be reached.
        """
        return self._attempt(
            name,
            lambda remote: remote.cat_file(self.path(name), start=offset, end=offset + size),
            lambda: self._pread(name, size, offset),
        )

    def _attempt(self, name: str, there: Any, here: Any) -> bytes:
        try:
            return bytes(there(self._remote()) if is_address(self.root) else here())
        except FileNotFoundError:
            raise DataError(f"{self.path(name)}: no such file") from None
        except EnvironmentFault:
            raise
        except Exception as error:  # each kind of address has exceptions of its own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EnvironmentFault(f"{self.path(name)}: cannot be read ({reason})") from error

    def _pread(self, name: str, size: int, offset: int) -> bytes:
        with self._lock:  # another thread must not close the file meanwhile
            if name not in self._opened:
                self._opened[name] = os.open(self.path(name), os.O_RDONLY)
                while len(self._opened) > _OPEN:
                    os.close(self._opened.popitem(last=False)[1])
            self._opened.move_to_end(name)
            return os.pread(self._opened[name], size, offset)

    def _remote(self) -> Any:
        # A worker that was forked needs connections of its own.
        if self._process != os.getpid():
            import fsspec

            kind = self.root.partition("://")[0]
            try:
                self._filesystem = fsspec.filesystem(kind, skip_instance_cache=True)
            except ImportError as error:
                extra = "pip install 'visionkit[cloud]'" if kind in ("s3", "gs", "gcs") else str(error)
                raise EnvironmentFault(f"{self.root}: what reads {kind}:// is not installed; {extra}") from None
            except ValueError as error:
                raise EnvironmentFault(f"{self.root}: {error}") from None
            self._process = os.getpid()
        return self._filesystem


class Parts:
    """The samples of one split as bytes, checked, and kept on this machine where they come from elsewhere.

    What is kept stays: every epoch reads each sample once, so whatever drops the oldest ones would drop each just
    before it is read again. The first samples are kept, as many as fit.

    Args:
        files: The folder.
        split: Name of the split.
        entries: (N,) see `datamodules.shard_format.ENTRY`.
        cache: Folder to keep them in, or None.
        bound: Bytes that may be kept.
    """

    def __init__(
        self, files: Files, split: str, entries: np.ndarray, cache: Path | None = None, bound: int = 0
    ) -> None:
        self.files, self.split, self.entries = files, split, entries
        self.starts = np.concatenate([[0], np.cumsum(entries["size"])]) if cache is not None else np.zeros(1, np.int64)
        self.kept = 0 if cache is None else int(np.searchsorted(self.starts, bound, side="right")) - 1
        self.cache: Path | None = None
        if cache is not None and self.kept > 0:
            mark = hashlib.sha256(f"{files.root}\n{split}\n".encode() + entries.tobytes()).hexdigest()[:20]
            self.cache = cache / f"{mark}.samples"
            cache.mkdir(parents=True, exist_ok=True)
            for path, size in ((self.cache, int(self.starts[self.kept])), (self._flags_path, len(entries))):
                with path.open("ab") as file:
                    file.truncate(max(size, file.tell()))
        self._number = -1
        self._flags: mmap.mmap | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_number": -1, "_flags": None}

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            os.close(self._number)

    def read(self, number: int) -> bytes:
        """The bytes of one sample.

        Raises:
            DataError: They are not those that were written.
            EnvironmentFault: They cannot be reached.
        """
        entry = self.entries[number]
        shard, crc, offset, size = (int(entry[name]) for name in ("shard", "crc", "offset", "size"))
        name = shard_name(self.split, shard)
        keeps = self.cache is not None and number < self.kept
        if keeps:
            flags = self._open()
            if flags[number]:
                blob = os.pread(self._number, size, int(self.starts[number]))
                if zlib.crc32(blob) == crc:
                    return blob
        blob = self.files.part(name, offset, size)
        if len(blob) > size:
            raise EnvironmentFault(f"{self.files.path(name)}: the server gives whole files and no byte ranges of them")
        if len(blob) != size or zlib.crc32(blob) != crc:
            raise DataError(f"{self.files.path(name)}: damaged at byte {offset:,} (checksum); write or copy it again")
        if keeps:
            os.pwrite(self._number, blob, int(self.starts[number]))
            flags[number] = 1  # last: it states that the bytes are there
        return blob

    @property
    def _flags_path(self) -> Path:
        assert self.cache is not None
        return self.cache.with_suffix(".there")

    def _open(self) -> Any:
        if self._flags is None:
            assert self.cache is not None
            self._number = os.open(self.cache, os.O_RDWR)
            with self._flags_path.open("r+b") as file:
                self._flags = mmap.mmap(file.fileno(), 0)
        return self._flags
