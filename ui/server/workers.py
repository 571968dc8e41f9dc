"""Several processes behind one port: started, watched, started again where one dies, and ended together.

The parent listens and serves nobody. The workers inherit its socket and accept from one queue of the system, so that a
connection that waits there is not lost with a worker that dies.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ui.server.metrics import SHARED
from ui.server.metrics_files import merge_ended
from ui.server.worker import ORDER
from visionkit.errors import EnvironmentFault, Interrupted, Terminated

COMMAND = (sys.executable, "-P", "-m", "ui.server.worker")
"""Modules are those of the parent: without `-P` files of the folder that it was started in would go before all."""

ROUND = 0.1
"""Seconds between two checks of the workers."""

PAUSE, LONGEST = 1.0, 30.0
"""Seconds before a worker that ended before it served is started again, twice as many each time, and at most."""

VAIN = 5
"""Times in a row that a worker may end before it serves while no other one serves."""

LATE = 10.0
"""Seconds beyond `--timeout` after which a worker that was asked to end is killed."""


class Workers:
    """The processes of one server.

    Args:
        args: Arguments of `visionkit serve`.
        door: Socket that listens.
        scratch: Folder of temporary files; each worker gets a folder of its own in it.
    """

    def __init__(self, args: argparse.Namespace, door: socket.socket, scratch: Path) -> None:
        self._args, self._door, self._scratch = args, door, scratch
        self._workers = [_Process(number) for number in range(args.workers)]
        self._metrics = scratch / "metrics"
        self._metrics.mkdir()

    def run(self) -> int:
        """Serves until a signal ends it; returns the status of the first worker where that cannot serve at all.

        Raises:
            EnvironmentFault: The workers end again and again before they serve.
            Terminated: SIGTERM; requests that had come got their responses.
            Interrupted: The same by Ctrl+C.
        """
        try:
            status = self._start_first()
            while status is None:
                for worker in self._workers:
                    self._attend(worker)
                time.sleep(ROUND)
            return status
        except (Interrupted, Terminated):
            self._end(self._args.timeout + LATE)
            raise
        finally:
            self._end(0.0)

    def _start_first(self) -> int | None:
        """Starts the first worker alone: what is wrong for all is reported once. Gives its status where it ends."""
        first = self._workers[0]
        self._start(first, is_first=True)
        assert first.process is not None
        while True:
            status = first.process.poll()
            if first.is_up():
                return None
            if status is not None and status < 0:
                raise EnvironmentFault(f"the first worker {_ended(status)} before it served")
            if status is not None:
                return status  # it has printed why
            time.sleep(ROUND)

    def _attend(self, worker: _Process) -> None:
        """Starts a worker that does not run and is due."""
        if worker.process is None:
            if time.monotonic() >= worker.due:
                self._start(worker)
            return
        status, was_up = worker.process.poll(), worker.is_up()
        if status is None:
            return
        self._forget(worker.process.pid)
        worker.vain = 0 if was_up else worker.vain + 1
        if worker.vain >= VAIN and not any(each.is_up() for each in self._workers if each is not worker):
            raise EnvironmentFault(f"a worker {_ended(status)} {VAIN} times in a row before it served")
        print(
            f"visionkit: worker {worker.number} (process {worker.process.pid}) {_ended(status)}; it is started again",
            file=sys.stderr,
        )
        worker.leave()
        worker.due = time.monotonic() + _pause(worker.vain)

    def _start(self, worker: _Process, is_first: bool = False) -> None:
        folder = self._scratch / f"worker-{worker.number}"
        shutil.rmtree(folder, ignore_errors=True)  # what a worker that died has left
        folder.mkdir()
        ours, theirs = socket.socketpair()
        order = {
            "door": self._door.fileno(),
            "line": theirs.fileno(),
            "folder": str(folder),
            "is_first": is_first,
            "options": vars(self._args),
        }
        threads = str(max(1, _cores() // len(self._workers)))
        paths = os.pathsep.join(map(os.path.abspath, sys.path))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": paths}
        environment |= {SHARED: str(self._metrics), ORDER: json.dumps(order)}
        with theirs:
            worker.line = ours
            worker.process = subprocess.Popen(
                COMMAND,
                env=environment,
                pass_fds=(self._door.fileno(), theirs.fileno()),
                start_new_session=True,  # Ctrl+C of a terminal reaches the parent alone, which passes it on once
            )

    def _forget(self, process: int) -> None:
        """Takes the gauges of a process that ended out of the metrics; what it counted stays, in one file for all."""
        try:
            lost = merge_ended(self._metrics, process)
        except OSError as error:  # a full disk: they are merged by nobody, and counted all the same
            lost = []
            print(f"visionkit: metrics of process {process} stay in files of their own: {error}", file=sys.stderr)
        if lost:
            print(
                f"visionkit: metrics of process {process} are lost, since a file is damaged: {', '.join(lost)}",
                file=sys.stderr,
            )

    def _end(self, seconds: float) -> None:
        """Ends all workers, and kills those that still run after that time."""
        running = [each.process for each in self._workers if each.process is not None]
        for process in running:
            process.terminate() if seconds else process.kill()
        end = time.monotonic() + seconds
        while any(process.poll() is None for process in running) and time.monotonic() < end:
            time.sleep(ROUND / 2)
        for process in running:
            process.kill()
            process.wait()


class _Process:
    """A worker as its parent sees it."""

    def __init__(self, number: int) -> None:
        self.number, self.vain, self.due = number, 0, 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        self._is_up = False

    def is_up(self) -> bool:
        """Whether it has served since it was started."""
        if self.line is not None and not self._is_up and select.select([self.line], [], [], 0)[0]:
            self._is_up = self.line.recv(1) == b"1"
        return self._is_up

    def leave(self) -> None:
        """Forgets the process, which has ended."""
        assert self.line is not None
        self.line.close()
        self.process, self.line, self._is_up = None, None, False


def _pause(vain: int) -> float:
    """Seconds before a worker is started again that ended `vain` times in a row before it served."""
    return min(LONGEST, PAUSE * 2 ** min(vain - 1, 10)) if vain else 0.0  # of a thousand times the power has no float


def _ended(status: int) -> str:
    """How a process ended, in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
