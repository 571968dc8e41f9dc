"""Which checkpoints a run keeps: the last one, to go on from, and the best one, to use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from weakref import proxy

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from visionkit.atomic import beside, remove_leftovers, sync_folder
from visionkit.callbacks.divergence import Divergence
from visionkit.checkpoint import AtomicCheckpointIO
from visionkit.errors import UsageError
from visionkit.resume import Position, position_of, settle


class Checkpointing(Checkpoint):
    """Keeps `last.ckpt` and one `best-*.ckpt` in a folder; either is enough to go on exactly.

    `last.ckpt` is written every `every_n_train_steps` optimiser steps, after each validation and at the end of an epoch
    without one; never while gradients are being accumulated. Each is written beside its place and renamed. Weights
    after a non-finite loss are not saved.

    Args:
        folder: Of the checkpoints.
        monitor: Name of the metric that chooses the best.
        mode: "min" or "max".
        every_n_train_steps: 0 leaves it at validations and epochs.

    Attributes:
        best_model_path: The best checkpoint, or "".
        best_model_score: Its metric, or None.
        last_model_path: The last checkpoint, or "".
    """

    def __init__(self, folder: str | Path, monitor: str, mode: str = "max", every_n_train_steps: int = 0) -> None:
        if mode not in ("min", "max"):
            raise UsageError(f"checkpointing: mode {mode!r}: allowed are min and max")
        if every_n_train_steps < 0:
            raise UsageError(f"checkpoint_every {every_n_train_steps}: 0 (off) or a number of steps")
        self.folder, self.monitor, self.mode, self.every = Path(folder), monitor, mode, every_n_train_steps
        self.best_model_path = self.last_model_path = ""
        self.best_model_score: Tensor | None = None
        self._saved: tuple[int, Position] | None = None
        self._resumed = False

    # What loggers ask of Lightning's own callback.
    save_top_k = 1
    save_last = True

    @property
    def dirpath(self) -> str:
        """The folder as text."""
        return str(self.folder)

    @property
    def best_k_models(self) -> dict[str, Tensor]:
        """The best path and its score."""
        return {self.best_model_path: self.best_model_score} if self.best_model_score is not None else {}

    @property
    def state_key(self) -> str:
        """One per run, whatever its arguments."""
        return "Checkpointing"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.is_global_zero:
            remove_leftovers(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resumed = trainer.global_step > 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._resumed:
            # The step that loggers draw at is not restored by all of Lightning's ways to resume.
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            self._resumed = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every and trainer.global_step % self.every == 0 and not trainer.fit_loop._should_accumulate():
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise UsageError(f"checkpointing: the metric {self.monitor} was not logged; these were: {known}")
        # Every rank computed the same metric, but a difference in the last bit must not split them.
        score = trainer.strategy.broadcast(score.detach().cpu().clone())
        if self._is_best(score) and self._healthy(trainer):
            self._save_best(trainer, score)
        else:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> Path | None:
        """Writes `last.ckpt` unless it is there already; every rank has to call it at the same step.

        Returns:
            Its path, or None where nothing was or had been saved.
        """
        path = self.folder / "last.ckpt"
        place = (trainer.global_step, position_of(trainer))
        if place != self._saved:
            useless = trainer.fast_dev_run or trainer.sanity_checking or not trainer.global_step  # type: ignore[attr-defined]
            if useless or not self._healthy(trainer):
                return Path(self.last_model_path) if self.last_model_path else None
            self.last_model_path = str(path)
            trainer.save_checkpoint(path, weights_only=False)
            self._after(trainer, place)
        return path

    def _is_best(self, score: Tensor) -> bool:
        if self.best_model_score is None or not torch.isfinite(score):
            return bool(torch.isfinite(score))
        better = score < self.best_model_score if self.mode == "min" else score > self.best_model_score
        return bool(better)

    def _save_best(self, trainer: Trainer, score: Tensor) -> None:
        name = self.monitor.rpartition("/")[2]
        path = self.folder / f"best-step{trainer.global_step:06d}-{name}-{score.item():.4f}.ckpt"
        self.best_model_path, self.best_model_score = str(path), score
        last = self.folder / "last.ckpt"
        self.last_model_path = str(last)
        place = (trainer.global_step, position_of(trainer))
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            _same_file(path, last)
            for other in self.folder.glob("best-*.ckpt"):
                if other != path:
                    other.unlink(missing_ok=True)
        self._after(trainer, place)

    def _after(self, trainer: Trainer, place: tuple[int, Position]) -> None:
        self._saved = place
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.after_save_checkpoint(proxy(self))

    @staticmethod
    def _healthy(trainer: Trainer) -> bool:
        watchers = [callback for callback in trainer.callbacks if isinstance(callback, Divergence)]  # type: ignore[attr-defined]
        return all(watcher.healthy(trainer) for watcher in watchers)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            position = position_of(trainer)
            settle(checkpoint["loops"]["fit_loop"], position)
            checkpoint["epoch"] = position.epoch

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_path": self.best_model_path, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best score stands, wherever the folder is now."""
        self.best_model_score = state_dict["best_model_score"]
        here = self.folder / Path(state_dict["best_model_path"]).name
        self.best_model_path = str(here) if here.is_file() else state_dict["best_model_path"]


def _same_file(source: Path, target: Path) -> None:
    """Makes `target` a second name of `source`, or a copy where a file can have one name only; never half of it."""
    part = beside(target)
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(target)
    sync_folder(target.parent)
