"""One of the processes that serve a port together; `ui.server.workers` starts it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

ORDER = "VISIONKIT_WORKER"
"""Environment variable with what the process is to do, as json: the fields of `Worker` and those of `main`."""


@dataclass(frozen=True)
class Worker:
    """Which of the processes this is.

    Attributes:
        line: Connection to the parent: it gets a byte once this process serves, and closes it by its own end.
        is_first: Whether no other one has served before. It listens before its models are loaded, and prints for all.
    """

    line: socket.socket
    is_first: bool

    def begin(self, message: str) -> None:
        """Reports that it serves.

        Args:
            message: Line that is printed by the first one.
        """
        if self.is_first:
            print(message, flush=True)
        self.line.sendall(b"1")

    def watch(self) -> None:
        """Ends this process as SIGTERM does once the parent is there no more, which can then end nobody."""
        with contextlib.suppress(ConnectionError):  # it ended before it had read the byte
            self.line.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Serves until the parent ends it; returns the exit status."""
    from ui.commands.serve import serve
    from ui.stopping import stopped_by_signal
    from visionkit.errors import Interrupted, Terminated

    order = json.loads(os.environ.pop(ORDER))
    worker = Worker(socket.socket(fileno=order["line"]), order["is_first"])
    threading.Thread(target=worker.watch, name="parent", daemon=True).start()
    try:
        with stopped_by_signal() as check_stopped, socket.socket(fileno=order["door"]) as door:
            args = argparse.Namespace(**order["options"])
            serve(door, args, Path(order["folder"]), check_stopped, worker=worker)
    except (Interrupted, Terminated) as end:  # which the parent reports once
        return end.status
    return 0


if __name__ == "__main__":
    from ui.cli import leave, reported

    leave(reported(main))
