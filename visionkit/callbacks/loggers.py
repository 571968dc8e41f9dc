"""What a tracked run gets beside its metrics: its id in every checkpoint, and the tables of its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from visionkit.callbacks.best import Best
from visionkit.callbacks.images import ImageLogger
from visionkit.loggers import CHECKPOINT_KEY, continue_from, trackers
from visionkit.task import VisionTask

_NONE = torch.tensor(torch.nan)


class Tracking(Callback):
    """Puts the W&B run's id into its checkpoints, and the task's tables into the run when training or a test ends.

    The tables of a training are those of its best validation. Does nothing without a `WandbTracker`.
    """

    def __init__(self) -> None:
        self._best: Best | None = None
        self._tables: dict[str, list[dict[str, Any]]] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        for tracker in trackers(trainer.loggers):
            if tracker.version is not None:
                checkpoint[CHECKPOINT_KEY] = {"id": tracker.version}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(pl_module, VisionTask):
            return
        if trainer.state.fn != "fit":
            self._log(trainer, "val", pl_module.tables())
            return
        metric, mode = pl_module.monitor
        self._best = self._best or Best(mode)
        score, loss = (trainer.callback_metrics.get(name, _NONE) for name in (metric, "val/loss"))
        if not self._tables or self._best.is_beaten(score, float(loss)):
            self._best.score, self._best.loss = score.clone(), float(loss)
            self._tables = dict(pl_module.tables())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, "val", self._tables)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, VisionTask):
            self._log(trainer, "test", pl_module.tables())

    @staticmethod
    def _log(trainer: Trainer, split: str, tables: dict[str, list[dict[str, Any]]]) -> None:
        for tracker in trackers(trainer.loggers):
            tracker.log_tables(tables, split, trainer.global_step)


def track(trainer: Trainer, checkpoint: str | Path | None = None) -> None:
    """Gives a trainer what its loggers can show, as far as it has not got it: images, tables, a curve that goes on.

    Args:
        trainer: Before it trains.
        checkpoint: What it will go on from.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    tracked = trackers(trainer.loggers)
    wanted: list[type[Callback]] = [Tracking] if tracked else []
    if tracked or any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        wanted.append(ImageLogger)
    present: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    missing = [kind() for kind in wanted if not any(isinstance(each, kind) for each in present)]
    present[:0] = missing  # checkpoints stay last, as Lightning needs them
    if tracked and checkpoint is not None:
        continue_from(tracked, checkpoint)
