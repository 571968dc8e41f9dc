"""Stops a training whose loss is not a number any more, and says where it began."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from visionkit.errors import Diverged, UsageError

_SHOWN_IDS = 4


class Divergence(Callback):
    """Raises `Diverged` (status 6) after `patience` non-finite losses in a row, naming the first one's step and images.

    On the CPU each loss is looked at. Elsewhere, and on several ranks, losses are kept on the device and read every
    `log_every_n_steps` steps, so that a step never waits; the message names the step all the same.

    Args:
        patience: Losses in a row that may be NaN or infinite before the training is stopped.
    """

    def __init__(self, patience: int = 3) -> None:
        if patience < 1:
            raise UsageError(f"stop_after_nonfinite {patience}: must be at least 1")
        self.patience = patience
        self._bad: list[tuple[int, Sequence[str]]] = []
        self._seen: deque[tuple[int, Sequence[str]]] = deque()
        self._losses: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bad, self._losses = [], None
        self._seen.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if not isinstance(loss, Tensor):
            return
        ids: Sequence[str] = batch.get("id", ()) if isinstance(batch, dict) else ()
        if loss.device.type == "cpu" and trainer.world_size == 1:
            self._count(loss.item(), trainer.global_step, ids)
            if len(self._bad) >= self.patience:
                self._stop()
            return
        if self._losses is None:
            self._losses = torch.zeros(max(1, trainer.log_every_n_steps), device=loss.device)  # type: ignore[attr-defined]
        self._losses[len(self._seen)] = loss.detach()
        self._seen.append((trainer.global_step, ids))
        if len(self._seen) == len(self._losses) and self._worst(trainer) >= self.patience:
            self._stop()

    def healthy(self, trainer: Trainer) -> bool:
        """Whether the last loss was finite, on every rank; waits for the device. All ranks have to ask."""
        return self._worst(trainer) == 0

    def _worst(self, trainer: Trainer) -> int:
        """The longest run of non-finite losses that still goes on, over all ranks."""
        if self._losses is not None:
            values = self._losses[: len(self._seen)].tolist()
            for value, (step, ids) in zip(values, self._seen, strict=True):
                if len(self._bad) < self.patience:
                    self._count(value, step, ids)
            self._seen.clear()
        length = len(self._bad)
        if trainer.world_size > 1:
            shared = torch.tensor(length, device=trainer.strategy.root_device)
            length = int(trainer.strategy.reduce(shared, reduce_op="max"))
        return length

    def _count(self, loss: float, step: int, ids: Sequence[str]) -> None:
        if math.isfinite(loss):
            self._bad.clear()
        else:
            self._bad.append((step, ids))

    def _stop(self) -> None:
        advice = (
            "lower optim.lr, raise optim.warmup, or look at these pictures; the last checkpoint was saved before that"
        )
        if not self._bad:
            raise Diverged(f"the loss of another process became NaN or infinite: {advice}")
        step, ids = self._bad[0]
        named = ", ".join(ids[:_SHOWN_IDS]) + (f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else "")
        raise Diverged(
            f"the loss was NaN or infinite {len(self._bad)} times in a row, first at step {step} "
            f"with the pictures {named or '(unnamed)'}: {advice}"
        )
