"""What a failure is for whoever sent the request: a number, and words that state whose fault it is."""

from __future__ import annotations

import errno
import sys
import traceback

from ui import strings
from ui.server.job_queue import Busy, TooSlow
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, VisionKitError

STATUS: tuple[tuple[type[VisionKitError], int], ...] = (
    (Busy, 503),
    (TooSlow, 504),
    (DataError, 422),
    (UsageError, 400),
    (CheckpointError, 500),
    (EnvironmentFault, 503),
)
"""What a program gets as a number; the words are those of the page."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def is_lack(error: BaseException) -> bool:
    """Whether the machine lacks something: room on the disk, files, memory."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _FULL)


def status_of(error: Exception) -> tuple[int, str]:
    """The status and the words for a failure; what nobody expected goes to the log of the server.

    Args:
        error: Error of the work, not of reading the request.
    """
    if isinstance(error, VisionKitError):
        return next((status for kind, status in STATUS if isinstance(error, kind)), 500), str(error)
    if is_lack(error):
        log("the machine lacks something", error)
        return 503, strings.LACK
    traceback.print_exception(error, file=sys.stderr)
    return 500, strings.DEFECT


def log(what: str, error: BaseException) -> None:
    """One line for who runs the server; what a visitor sent cannot make lines of its own."""
    message = " ".join(str(error).split())[:200]
    print(f"visionkit: {what}: {type(error).__name__}: {ascii(message)[1:-1]}", file=sys.stderr)
