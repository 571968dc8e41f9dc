"""Files and folders that are there whole or not at all, whatever happens while they are written.

A file is written beside its target, flushed to the disk and renamed, and the rename is flushed too. A temporary folder
on another file system, a killed process or a full disk can then cost the new file, never the old one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from visionkit.errors import EnvironmentFault

_SUFFIX = ".part"
_STALE_AFTER = 3600.0  # seconds; for what another machine, whose processes cannot be asked for, has left behind


def beside(target: Path) -> Path:
    """A name for the unfinished file, in the same folder; `remove_leftovers` knows it."""
    return target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}")


def no_space(target: Path, error: OSError | None) -> EnvironmentFault:
    """The failure for a file that could not be written: its path, the cause, what is free."""
    folder = next((p for p in (target.parent, *target.parent.parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free
    cause = (error.strerror or str(error)) if error is not None else "writing failed"
    return EnvironmentFault(
        f"{target}: not saved: {cause} ({free:,} bytes are free there); what stood there before is unharmed. "
        "Free some space or give another folder"
    )


class _Remembering:
    """A file that keeps the error of a failed write: torch's zip writer replaces it by a vaguer one."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            # The writer's destructor tries once more to finish the archive; let it believe that it can.
            return len(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        if self.error is None:
            self.file.flush()


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of `target` when the block ends well.

    Args:
        target: Where the file shall be; its folder is made.

    Raises:
        EnvironmentFault: The disk is full, or the folder cannot be written. `target` is then as it was.
    """
    part = beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            guarded = _Remembering(file)
            try:
                yield guarded  # type: ignore[misc]  # all that torch.save asks of a file
            except (OSError, RuntimeError):
                if guarded.error is not None:
                    raise guarded.error from None
                raise
            if guarded.error is not None:
                raise guarded.error
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise no_space(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file whole or not at all, in a folder that is there; unlike `atomic_file` it waits for no disk.

    Made for results, of which there may be thousands: a full disk leaves neither half a file nor costs an older one.

    Raises:
        OSError: It cannot be written; `target` is then as it was.
    """
    part = beside(target)
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which takes the place of `target` when the block ends well.

    Args:
        target: Where the folder shall be. What stands there is replaced whole.

    Raises:
        EnvironmentFault: The disk is full, or the place cannot be written. `target` is then as it was.
    """
    part = beside(target)
    old = part.with_name(part.name.removesuffix(_SUFFIX) + ".old" + _SUFFIX)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        part.mkdir()
        yield part
        for path in sorted(part.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(part)
        if target.exists():
            target.rename(old)
        try:
            part.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise no_space(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Brings a folder's entries to the disk, so that a rename survives a power cut."""
    with contextlib.suppress(OSError):  # some network file systems cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path) -> list[Path]:
    """Removes what killed processes have left half written in `folder`; another live process's file stays.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    for path in sorted(folder.glob(f".*{_SUFFIX}")) if folder.is_dir() else ():
        host, _, pid = path.name.removesuffix(_SUFFIX).removesuffix(".old").rpartition(".")
        try:
            if host.endswith(f".{socket.gethostname()}") and pid.isdigit():
                if _alive(int(pid)):
                    continue
            elif time.time() - path.stat().st_mtime < _STALE_AFTER:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed.append(path)
        except OSError:
            continue
    return removed


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # its own are written within one call
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
