"""Stops a training whose loss or weights are not finite any more, and reports where it began."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from visionkit.callbacks.agreement import Agreement, release_observer
from visionkit.errors import Diverged, UsageError, some_of
from visionkit.replay import save_batch
from visionkit.sharding import is_sharded, local

_SHOWN_IDS = 4
_ADVICE = "lower optim.lr, raise optim.warmup, set trainer.gradient_clip_val, or check these images"


class Divergence(Callback):
    """Raises `Diverged` (status 6) after `patience` non-finite losses in a row, naming the first one's step and images.

    No step waits for a loss: a device's is read when the next step is on its way, and several processes see each
    other's count one step later. From the first non-finite loss on both are waited for, so that a patience of three
    ends the training at the third loss on any device and any number of processes.

    The first such batch is kept in a file that `visionkit fit --replay` runs again; on a CPU, where a loss is known at
    once, with the weights before its step.

    Args:
        patience: Losses in a row that may be NaN or infinite before the training is stopped.
        folder: Folder of the run, for the batch; None keeps none.
    """

    def __init__(self, patience: int = 3, folder: str | Path | None = None) -> None:
        if patience < 1:
            raise UsageError(f"stop_after_nonfinite {patience}: must be at least 1")
        self.patience, self.folder = patience, None if folder is None else Path(folder)
        self._bad: list[tuple[int, Sequence[str]]] = []
        self._unread: deque[tuple[_Reading, int, Any, int, int]] = deque()
        self._current: tuple[Any, int, int] = (None, 0, 0)
        self._kept = ""
        self._agreement: Agreement | None = None
        self._alarm = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bad, self._alarm, self._kept = [], False, ""
        self._unread.clear()
        self._agreement = Agreement(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._current = (batch, batch_idx, torch.initial_seed())

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if loss.device.type == "cpu" and not math.isfinite(loss.item()):
            # In the middle of a step a sharded network has no weights that could be kept.
            self._keep(trainer, *self._current, with_weights=not is_sharded(trainer))

    def _keep(self, trainer: Trainer, batch: Any, number: int, seed: int, with_weights: bool = False) -> None:
        if self.folder is not None and not self._kept and isinstance(batch, dict):
            self._kept = save_batch(trainer, batch, number, self.folder, seed, with_weights)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self._unread.append((_Reading(loss.detach()), trainer.global_step, *self._current))
        self._read(trainer, behind=0 if self._alarm else 1)
        count = self._shared()
        if count and not self._alarm:
            self._alarm = True
            self._read(trainer)
            count = self._shared()
        self._alarm = count > 0  # the same on every process
        if count >= self.patience:
            diverged(trainer, self.blame() or "the loss of another process became NaN or infinite")

    def _shared(self) -> int:
        """The longest row of bad losses on any process: of this step once there was one, else of the step before."""
        if self._agreement is None:
            return len(self._bad)
        return self._agreement.now(len(self._bad)) if self._alarm else self._agreement.last(len(self._bad))

    def healthy(self) -> bool:
        """Whether the last loss of this process was finite; waits for the device."""
        self._read()
        return not self._bad

    def _read(self, trainer: Trainer | None = None, behind: int = 0) -> None:
        """Reads the losses that have arrived, and waits for all but the last `behind`."""
        while self._unread and (len(self._unread) > behind or self._unread[0][0].arrived()):
            reading, step, batch, number, seed = self._unread.popleft()
            if math.isfinite(reading.value()):
                self._bad.clear()
                continue
            self._bad.append((step, batch.get("id", ()) if isinstance(batch, dict) else ()))
            if trainer is not None:
                self._keep(trainer, batch, number, seed)

    def blame(self) -> str:
        """Where the losses of this process that are not finite began; "" where the last one was finite."""
        if not self._bad:
            return ""
        step, ids = self._bad[0]
        named = some_of(ids, _SHOWN_IDS)
        times = f"{len(self._bad)} times in a row" if len(self._bad) > 1 else "once"
        again = f" (visionkit fit --replay {self._kept} runs them again)" if self._kept else ""
        where = f"first at step {step} with the images {named or '(unnamed)'}{again}"
        return f"the loss was NaN or infinite {times}, {where}"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._agreement is not None:
            self._agreement.close()
        self._agreement = None


class _Reading:
    """A loss on its way from the device to the host."""

    def __init__(self, loss: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._value = loss
        if loss.is_cuda:
            self._value = torch.empty((), pin_memory=True).copy_(loss, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def arrived(self) -> bool:
        return self._event.query() if self._event is not None else self._value.device.type == "cpu"

    def value(self) -> float:
        if self._event is not None:
            self._event.synchronize()
        return self._value.item()


def nonfinite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the tensors that hold a NaN or an infinite value; waits for the device once."""
    floats = [(name, local(value)) for name, value in named if value.is_floating_point() and value.numel()]
    if not floats:
        return []
    finite = torch.stack([torch.isfinite(value.detach()).all().to(floats[0][1].device) for _, value in floats]).tolist()
    return [name for (name, _), good in zip(floats, finite, strict=True) if not good]


def poisoned(trainer: Trainer, never_finite: Iterable[str] = ()) -> list[str]:
    """What a checkpoint would hold that is not finite: weights, statistics, the optimizer's state, a moving average.

    Args:
        trainer: Within a training.
        never_finite: Buffers that hold infinite values on purpose, such as masks of attention.
    """
    from visionkit.callbacks.ema import EMA

    module = trainer.lightning_module
    named = [*module.named_parameters(), *module.named_buffers()]
    for optimizer in trainer.optimizers:
        for number, state in enumerate(optimizer.state.values()):
            named += [(f"optimizer {key} {number}", value) for key, value in state.items() if isinstance(value, Tensor)]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EMA):
            named += [(f"average of {name}", value) for name, value in callback.average.items()]
    skipped = set(never_finite)
    return nonfinite((name, value) for name, value in named if name.removeprefix("average of ") not in skipped)


def diverged(trainer: Trainer, what: str) -> NoReturn:
    """Ends the training on every process.

    Raises:
        Diverged: What happened, what to do, and which checkpoint stands.
    """
    release_observer()
    raise Diverged(f"{what}: {_ADVICE}; {kept(trainer)}")


def kept(trainer: Trainer) -> str:
    """Which checkpoint stands after a training was stopped."""
    paths = [path for each in trainer.checkpoint_callbacks if (path := getattr(each, "last_model_path", ""))]
    return f"{paths[-1]} was saved before that" if paths else "no checkpoint was saved before that"
