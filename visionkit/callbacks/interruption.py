"""A clean end on a signal: the step is finished, the checkpoint saved, the exit status states what happened."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer

from visionkit.callbacks.agreement import Agreement, release_observer
from visionkit.callbacks.checkpointing import Checkpointing
from visionkit.errors import Interrupted, Terminated

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Interruption(Callback):
    """Ends training after a signal, with a checkpoint: `Terminated` (143) or, from the keyboard, `Interrupted` (130).

    Lightning alone ends with status 0 and no checkpoint on SIGTERM, and in the middle of an optimizer step on Ctrl-C. A
    second Ctrl-C ends at once. On several ranks one signal to any of them is enough: all stop after the same step. To
    agree on it, each step's flags travel while the next step is computed, on a channel of the CPU, so no device waits.
    """

    def __init__(self) -> None:
        self._requested = 0
        self._previous: dict[int, Any] = {}
        self._agreement: Agreement | None = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()
        if trainer.received_sigterm:
            self._requested = signal.SIGTERM
        if trainer.world_size > 1 and dist.is_initialized():
            self._agreement = Agreement(trainer)
            # Lightning asks about signals before each batch by a broadcast that waits for the device.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def _listen(self) -> None:
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        self._requested = 0
        self._previous = {number: signal.signal(number, self._notice) for number in SIGNALS}

    def _notice(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self._requested == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = self._requested or number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._requested and self._agreement is None:
            return
        if not trainer.fit_loop._should_accumulate() and (number := self._agreed()):
            self._stop(trainer, number)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        # Several ranks have validations of different length: they go on to the next training step, where all can agree.
        if self._requested and self._agreement is None and trainer.state.fn == "fit":
            self._stop(trainer, self._requested)

    def _agreed(self) -> int:
        """The signal that some rank had received by the step before, the same on every rank."""
        return self._requested if self._agreement is None else self._agreement.last(self._requested)

    def _stop(self, trainer: Trainer, number: int) -> None:
        release_observer()
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        saver = next((each for each in callbacks if isinstance(each, Checkpointing)), None)
        path = saver.save(trainer) if saver is not None else None
        if (requeue := self._requeue(trainer, number)) is not None:
            requeue(number, None)
        run = path.parent.parent if path is not None else ""
        what = f"saved {path}; go on with --run {run} --ckpt_path last" if path else "nothing was saved yet"
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            raise Interrupted(f"interrupted after step {trainer.global_step}: {what}")
        raise Terminated(f"ended by {name} after step {trainer.global_step}: {what}")

    def _requeue(self, trainer: Trainer, number: int) -> Any:
        """Lightning's handler that hands the job back to SLURM, where this signal asks for it."""
        from lightning.fabric.plugins.environments import SLURMEnvironment

        environment = trainer._accelerator_connector.cluster_environment
        if (
            isinstance(environment, SLURMEnvironment)
            and environment.auto_requeue
            and number == environment.requeue_signal
        ):
            handler = self._previous.get(number)
            return handler if callable(handler) else None
        return None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._unlisten()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        release_observer()
        self._unlisten()

    def _unlisten(self) -> None:
        """Before Lightning puts back its own handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        if self._agreement is not None:
            self._agreement.close()
        self._agreement = None


def _nothing() -> None:
    """Takes the place of Lightning's broadcast."""
