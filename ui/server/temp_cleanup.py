"""Deletes what visitors sent and what was made for them, once it is old or there is too much of it."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

EVERY = 20.0
"""Seconds between two rounds, at most."""


class Sweeper:
    """Keeps a folder young and small.

    Args:
        folder: Folder of the server's temporary files.
        seconds: Files that were not written for so long are deleted.
        most: Bytes of all files together, above which the oldest go.
        spared: Folders that are left alone.
    """

    def __init__(self, folder: Path, seconds: float, most: int, spared: tuple[Path, ...] = ()) -> None:
        self.folder, self.seconds, self.most = folder, seconds, most
        self._spared = spared
        # The examples, which every visitor is shown, are there before the first visitor is.
        self._first = {path for path in folder.rglob("*") if path.is_file()}
        self._end = threading.Event()

    def start(self) -> None:
        """Begins its rounds, in a thread that ends with the process or with `stop`."""
        threading.Thread(target=self._work, name="sweeper", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread."""
        self._end.set()

    def sweep(self, now: float | None = None) -> int:
        """Goes round once; gives the number of files that were deleted."""
        now = time.time() if now is None else now
        found = []
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # somebody else was faster
                if path.is_file() and path not in self._first and not any(s in path.parents for s in self._spared):
                    stat = path.stat()
                    found.append((stat.st_mtime, stat.st_size, path))
        found.sort()
        size, gone = sum(each[1] for each in found), 0
        for written, bytes_, path in found:
            if now - written <= self.seconds and size <= self.most:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                gone += 1
                if path.parent != self.folder:
                    path.parent.rmdir()  # where it is empty now
            size -= bytes_
        return gone

    def _work(self) -> None:
        while not self._end.wait(min(EVERY, self.seconds / 4)):
            with contextlib.suppress(OSError):
                self.sweep()
