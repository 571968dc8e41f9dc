"""Progress in the terminal: a bar where somebody looks, plain lines where a file does."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from visionkit.resume import epoch_ends
from visionkit.tables import one_line
from visionkit.wording import epoch_text

_REFRESH = 0.1  # seconds between two updates of the bar


def progress(interval: float = 30.0) -> Callback:
    """The bar for a terminal, lines for everything else.

    Args:
        interval: Seconds between two lines.
    """
    return Bar() if sys.stdout.isatty() else Lines(interval)


class Bar(RichProgressBar):
    """Lightning's rich bar, which is informed of a batch ten times per second instead of each time.

    The losses it shows are means over the epoch so far, as of the last `log_every_n_steps` and of the epoch's end.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, leave=True)
        self._next = 0.0
        self._epoch_ends = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._epoch_ends = epoch_ends(trainer, batch_idx)
        if now >= self._next or self._epoch_ends:
            self._next = now + _REFRESH
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The latest losses, and the metric that chooses the best checkpoint."""
        return shown(trainer, pl_module, ask=self._epoch_ends)

    def _get_train_description(self, current_epoch: int) -> str:
        """Epochs from 1 on, as everywhere else; Lightning's own begin with 0."""
        return f"{epoch_text(current_epoch, self.trainer.max_epochs).capitalize():<{len(self.validation_description)}}"


class Lines(ProgressBar):
    """One line now and then: epoch, batch, speed, time left, losses.

    Args:
        interval: Seconds between two lines.
    """

    def __init__(self, interval: float = 30.0) -> None:
        super().__init__()
        self.interval = interval
        self._enabled = True
        self._next = self._began = 0.0
        self._first = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if not self._began:
            self._began, self._first = now, batch_idx + 1
            self._next = max(self._next, now + min(5.0, self.interval))
        total = trainer.num_training_batches
        if not self._enabled or (now < self._next and not epoch_ends(trainer, batch_idx)):
            return
        self._next = now + self.interval
        speed = (batch_idx + 1 - self._first) / (now - self._began) if now > self._began else 0.0
        text = f"{position(trainer)}  batch {batch_idx + 1}/{total}"
        if speed:
            text += f"  {speed:.1f}/s  {batches_left(trainer, batch_idx) / speed:.0f} s left"
        print(text + _formatted(shown(trainer, pl_module, ask=True)), flush=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and trainer.state.fn == "fit" and not trainer.sanity_checking:
            values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
            width = shutil.get_terminal_size().columns
            monitor = getattr(pl_module, "monitor", ("",))[0]
            print(one_line(values, f"{position(trainer)}  validation", monitor, width), flush=True)


def position(trainer: Trainer) -> str:
    """Where a training is, of what it was limited to: epochs, or steps where these end it."""
    place = epoch_text(trainer.current_epoch, trainer.max_epochs)
    if trainer.max_steps > 0:
        place += f"  step {trainer.global_step}/{trainer.max_steps}"
    return place


def batches_left(trainer: Trainer, batch_idx: int) -> float:
    """Batches until the epoch ends, or the training within it."""
    left: float = trainer.num_training_batches - batch_idx - 1
    if trainer.max_steps > 0:
        left = min(left, (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return max(left, 0)


def shown(trainer: Trainer, pl_module: LightningModule, ask: bool = False) -> dict[str, float]:
    """The task's mean losses of this epoch and its monitored metric.

    Args:
        trainer: Has the metric.
        pl_module: Has the losses.
        ask: Up to this step, which waits for the device, and not as they were last logged.
    """
    values = {name: value for name, value in getattr(pl_module, "latest", {}).items() if name.startswith("train/")}
    if ask and (log := getattr(pl_module, "step_log", None)) is not None:
        values = {f"train/{name}": value for name, value in log.running().items()}
    monitor = getattr(pl_module, "monitor", ("",))[0]
    if monitor in trainer.callback_metrics:
        values[monitor] = float(trainer.callback_metrics[monitor])
    return values


def _formatted(values: dict[str, float]) -> str:
    return "".join(f"  {name} {value:.4g}" for name, value in values.items())
