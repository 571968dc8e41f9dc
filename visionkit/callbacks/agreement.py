"""What the processes of a training agree on: a number each, of which all get the largest, on the CPU."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer

from visionkit.errors import EnvironmentFault


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
            seconds = self._timeout.total_seconds()
            raise EnvironmentFault(
                f"another process of this training has ended, or has not responded for {seconds:g} s (--rank_timeout): "
                f"its own output states why ({str(error).strip().splitlines()[0][:120]})"
            ) from error
        return int(flag)

    def close(self) -> None:
        """Waits for what still travels; another process's end is not reported again."""
        if self._pending is not None:
            with contextlib.suppress(RuntimeError):
                self._pending[0].wait()
        self._pending = self._group = None


def release_observer() -> None:
    """Lightning kills the main process when a child ends with a status; here all of them do, on purpose."""
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]
