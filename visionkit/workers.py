"""The processes that load images: signals are left to their parent, one thread each, memory that is kept."""

from __future__ import annotations

import ctypes
import os
import signal
import threading

import torch

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
"""Signals that end a training after its step; a worker has to outlive them."""


def _leave_signals_to_parent() -> None:
    """Keeps a worker alive when the whole process group is told to stop: the step still needs its pictures.

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
    """Stops glibc from giving a decoded picture's pages back, only to fault them in again."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library, which decides for itself
    mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its highest: larger blocks are mapped one by one
    mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: what may lie unused at the end of the heap
