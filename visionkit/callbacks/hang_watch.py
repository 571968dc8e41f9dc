"""Ends a training that makes no step any more, and shows where every thread of the process stands."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.errors import EnvironmentFault, UsageError


class HangWatch(Callback):
    """Prints the stacks of all threads and ends the process (status 5) after a time without a step.

    It sees what `--rank_timeout` cannot: a process that waits for a disk, a lock or a worker and not for another
    process. Steps of training and of evaluation count; the longest thing between two of them, such as compiling the
    network or computing the metrics of a large split, has to fit into the time.

    Args:
        seconds: Time without a step, above 0.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise UsageError(f"hang_timeout {seconds:g}: a number of seconds above 0, or 0 for none")
        self.seconds = seconds
        self._latest, self._step, self._rank = time.monotonic(), 0, 0
        self._over = threading.Event()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rank = trainer.global_rank
        self._over.clear()
        self._note(trainer)
        threading.Thread(target=self._watch, name="visionkit-hang-watch", daemon=True).start()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._note(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._note(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._over.set()

    def _note(self, trainer: Trainer) -> None:
        self._latest, self._step = time.monotonic(), trainer.global_step

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() - self._latest > self.seconds:
                self._end()

    def _end(self) -> None:
        """The main thread may never come back from where it is, so nothing is left but to end the process here."""
        sys.stderr.flush()
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)
        print(
            f"visionkit: error: process {self._rank} on {os.uname().nodename} has made no step for {self.seconds:g} s "
            f"(--hang_timeout) after step {self._step}: the lines above show where its threads stand; go on with the "
            "same command, --run DIR and --ckpt_path last",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EnvironmentFault.status)
