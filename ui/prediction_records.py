"""The file of records that `visionkit predict` writes: whole, and never at the cost of an older one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from visionkit.errors import EnvironmentFault, UsageError

RECORDS = "predictions.jsonl"


def cannot_write(path: Path, error: OSError) -> EnvironmentFault:
    """The failure for a result that could not be written."""
    return EnvironmentFault(f"{path}: cannot be written ({error.strerror})")


def prepare_folder(out: Path, overwrite: bool) -> Path:
    """Makes the folder of the results.

    Args:
        out: The folder.
        overwrite: Records that are there are replaced.

    Raises:
        UsageError: It has records.
        EnvironmentFault: It cannot be made.
    """
    records = out / RECORDS
    if records.exists() and not overwrite:
        raise UsageError(f"{records}: already exists; name another folder, or replace it with --overwrite")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    return out


@contextmanager
def records_of(out: Path | None) -> Iterator[IO[str]]:
    """The file that the records are written to, which takes its name when it is whole.

    Args:
        out: Folder of the file; the standard output by default.

    Raises:
        EnvironmentFault: It cannot be written.
    """
    if out is None:
        yield sys.stdout
        return
    from visionkit.atomic import beside, remove_leftovers

    # Records that already exist stay until the new ones are whole; without any, what was done until a failure is
    # kept.
    target = out / RECORDS
    had, part = target.exists(), beside(target)
    remove_leftovers(out)
    try:
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise cannot_write(target, error) from error
    try:
        yield file
        close_whole(file, target)
    except BaseException:
        with suppress(OSError):  # what is left in its buffer fails again, and would hide the failure before it
            file.close()
        with suppress(OSError):
            if not had and part.is_file() and _keep_whole_lines(part):
                part.replace(target)
        raise
    else:
        part.replace(target)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def close_whole(file: IO[str], target: Path) -> None:
    """Closes a file, whose last lines reach the disk only now.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    try:
        file.close()
    except OSError as error:
        raise cannot_write(target, error) from error


def _keep_whole_lines(path: Path) -> int:
    """Cuts a line off that a full disk has cut short; the bytes that are left."""
    with path.open("r+b") as file:
        size = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(size)
    return size
