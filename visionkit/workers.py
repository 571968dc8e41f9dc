"""The processes that load images: signals left to their parent, one thread each, memory that is kept, short paths."""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import util
from pathlib import Path

import torch

from visionkit.errors import EnvironmentFault

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
"""Signals that end a training after its step; a worker has to outlive them."""


_SOCKET = len("/pymp-xxxxxxxx/listener-xxxxxxxx")
_LONGEST = 107  # bytes of the path of a socket, as Linux has it
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def shorten_sockets(folders: Sequence[str] = _SHORT) -> None:
    """Puts the sockets of worker processes into a short folder where `TMPDIR` is too long for the path of a socket.

    Workers hand their batches over by sockets in the temporary folder. Where their paths are too long, the thread that
    serves them dies, and training waits for ever.

    Args:
        folders: Where a folder is made in that case; the first one that may be written to.

    Raises:
        EnvironmentFault: No such folder.
    """
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) + _SOCKET <= _LONGEST:
        return
    short = next((each for each in folders if Path(each).is_dir() and os.access(each, os.W_OK | os.X_OK)), None)
    if short is not None:
        kept, tempfile.tempdir = tempfile.tempdir, short
        try:
            made = util.get_temp_dir()  # made once per process and handed down to its workers
        finally:
            tempfile.tempdir = kept
    if short is None or len(os.fsencode(made)) + len("/listener-xxxxxxxx") > _LONGEST:
        raise EnvironmentFault(
            f"TMPDIR {usual}: {len(os.fsencode(usual))} bytes, and the sockets of loading processes allow "
            f"{_LONGEST - _SOCKET}; set a shorter TMPDIR, or --data.num_workers 0"
        )


def _leave_signals_to_parent() -> None:
    """Keeps a worker alive when a signal to stop reaches the whole process group: the step still needs its images.

    A worker that dies of a signal makes torch raise in the middle of the trainer's step. The trainer's own request to
    end is still obeyed; who sent a signal is seen by waiting for it.
    """
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def wait() -> None:
        while True:
            number = signal.sigwaitinfo(STOPPING)
            if number.si_signo == signal.SIGTERM and number.si_pid == parent:
                os._exit(0)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def init_worker(worker: int) -> None:
    """Called in each loading process; its number is not needed."""
    _leave_signals_to_parent()
    settle_worker()


def settle_worker() -> None:
    """One thread a worker, since they are one process a core already, and memory that is kept."""
    torch.set_num_threads(1)
    _keep_freed_memory()
    try:
        import cv2

        cv2.setNumThreads(0)
    except ImportError:
        pass


def _keep_freed_memory() -> None:
    """Stops glibc from giving a decoded image's pages back, only to fault them in again."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library, which decides for itself
    mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its highest: larger blocks are mapped one by one
    mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: what may lie unused at the end of the heap
