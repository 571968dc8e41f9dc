"""What the processes of a training agree on: a number each, of which all get the largest, on the CPU."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer

from visionkit.faults import lost_process

_PATIENCE = 30.0
"""Seconds that processes which the main one started have to end after it."""


class Agreement:
    """The largest of the numbers that the processes give, without a device waiting for it.

    Every process has to ask at the same steps. A process alone agrees with itself.

    Args:
        trainer: Trainer of a training that has begun.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None
        if trainer.world_size > 1 and dist.is_initialized():
            # Earlier than the device's own group, whose end is an abort that no line explains.
            self._timeout: timedelta = getattr(trainer.strategy, "_timeout", None) or timedelta(minutes=30)
            self._group = dist.new_group(backend="gloo", timeout=self._timeout * 0.9)

    @property
    def alone(self) -> bool:
        """There is no other process."""
        return self._group is None

    def last(self, value: int) -> int:
        """Hands in this step's number and gives the largest of the step before, which has traveled meanwhile."""
        if self._group is None:
            return value
        prediction = self._received()
        flag = torch.tensor(value)
        self._pending = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True), flag
        return prediction

    def now(self, value: int) -> int:
        """The largest of this step's numbers; waits for the slowest process."""
        self.last(value)
        return value if self._group is None else self._received()

    def _received(self) -> int:
        if self._pending is None:
            return 0
        (work, flag), self._pending = self._pending, None
        try:
            work.wait()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise lost_process(reason, self._timeout.total_seconds()) from error
        return int(flag)

    def close(self) -> None:
        """Waits for what still travels; another process's end is not reported again."""
        if self._pending is not None:
            with contextlib.suppress(RuntimeError):
                self._pending[0].wait()
        self._pending = self._group = None


def release_observer() -> None:
    """The main process ends by itself, with its own line and status, after the processes that it started.

    Lightning would kill it when one of them ends with a status. One that hangs is killed in the end.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer" and (children := thread._child_processes):  # type: ignore[attr-defined]
            thread._child_processes = []  # type: ignore[attr-defined]
            atexit.register(_await, children)


def _await(children: list[subprocess.Popen[bytes]]) -> None:
    """Waits for processes, and kills those that do not end."""
    end = time.monotonic() + _PATIENCE
    for child in children:
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"visionkit: killed the process {child.pid} of this training, which does not end", file=sys.stderr)
            child.kill()
