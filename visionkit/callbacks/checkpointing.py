"""Which checkpoints a run keeps: the last one, to go on from, and the best one, to use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from weakref import proxy

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from visionkit.atomic import beside, remove_leftovers, sync_folder
from visionkit.callbacks.best import Best
from visionkit.callbacks.divergence import Divergence, diverged, nonfinite, poisoned
from visionkit.checkpoint import AtomicCheckpointIO
from visionkit.errors import UsageError
from visionkit.resume import Position, position_of, settle
from visionkit.runs import claim, release


class Checkpointing(Checkpoint):
    """Keeps `last.ckpt` and one `best-*.ckpt` in a folder; either is enough to go on exactly.

    `last.ckpt` is written every `every_n_train_steps` optimizer steps, after each validation and at the end of an epoch
    without one; never while gradients are being accumulated. Each is written beside its place and renamed. Nothing is
    saved after a non-finite loss, and weights, statistics, averages or an optimizer's state that are not finite end
    the training (`Diverged`): no later step mends them. Of equal scores the one with the lower loss is the best, and
    without a loss the later.

    Args:
        folder: Folder of the checkpoints.
        monitor: Name of the metric that chooses the best.
        mode: "min" or "max".
        every_n_train_steps: 0 leaves it at validations and epochs.

    Attributes:
        best_model_path: The best checkpoint, or "".
        best_model_score: Its metric, or None.
        last_model_path: The last checkpoint, or "".
    """

    def __init__(self, folder: str | Path, monitor: str, mode: str = "max", every_n_train_steps: int = 0) -> None:
        if every_n_train_steps < 0:
            raise UsageError(f"checkpoint_every {every_n_train_steps}: 0 (off) or a number of steps")
        self.folder, self.monitor, self.mode, self.every = Path(folder), monitor, mode, every_n_train_steps
        self.best_model_path = self.last_model_path = ""
        self._best = Best(mode)
        self._saved: tuple[int, Position] | None = None
        self._resumed = self._refused = False
        self._never_finite: list[str] = []

    # What loggers ask of Lightning's own callback.
    save_top_k = 1
    save_last = True

    @property
    def dirpath(self) -> str:
        """The folder as text."""
        return str(self.folder)

    @property
    def best_model_score(self) -> Tensor | None:
        """The metric of the best checkpoint."""
        return self._best.score

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
        # The first process chose it; the clock of another may differ.
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        if trainer.is_global_zero:
            claim(self.folder)
            remove_leftovers(self.folder)
            self._remove_unused_shards()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        release(self.folder)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        release(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._resumed = trainer.global_step > 0
        self._never_finite = nonfinite(pl_module.named_buffers())

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
        # Every rank computed the same metrics, but a difference in the last bit must not split them.
        loss = float(trainer.callback_metrics.get("val/loss", torch.inf))
        score, loss = trainer.strategy.broadcast((score.detach().cpu().clone(), loss))
        if self._best.is_beaten(score, loss) and self._healthy(trainer):
            self._best.score, self._best.loss = score, loss
            self._save_best(trainer, score)
        else:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)
        if self._refused:
            blamed = "".join(watcher.blame() for watcher in _watchers(trainer))
            diverged(trainer, blamed or "the last loss of another process was NaN or infinite")

    def save(self, trainer: Trainer) -> Path | None:
        """Writes `last.ckpt` unless it already exists; every rank has to call it at the same step.

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

    def _save_best(self, trainer: Trainer, score: Tensor) -> None:
        name = self.monitor.rpartition("/")[2]
        path = self.folder / f"best-step{trainer.global_step:06d}-{name}-{score.item():.4f}.ckpt"
        self.best_model_path = str(path)
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
        if trainer.is_global_zero:
            self._remove_unused_shards()
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.after_save_checkpoint(proxy(self))

    def _remove_unused_shards(self) -> None:
        if (self.folder / "shards").is_dir():  # of a sharded network
            from visionkit.sharding.files import remove_unused

            remove_unused(self.folder)

    def _healthy(self, trainer: Trainer) -> bool:
        """Whether what a checkpoint would hold is worth keeping; every rank has to ask.

        Raises:
            Diverged: It holds values that are not finite.
        """
        watchers = _watchers(trainer)
        healthy = all(watcher.healthy() for watcher in watchers)
        bad = poisoned(trainer, self._never_finite)
        if not trainer.strategy.reduce_boolean_decision(not bad):
            found = f"{len(bad)} tensors, such as {bad[0]}, are" if bad else "tensors of another process are"
            where = f"{found} NaN or infinite after step {trainer.global_step}"
            diverged(trainer, "; ".join([where, *filter(None, (watcher.blame() for watcher in watchers))]))
        self._refused = not trainer.strategy.reduce_boolean_decision(healthy)
        return not self._refused

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            position = position_of(trainer)
            settle(checkpoint["loops"]["fit_loop"], position)
            checkpoint["epoch"] = position.epoch

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_model_path": self.best_model_path,
            "best_model_score": self._best.score,
            "best_model_loss": self._best.loss,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best score stands, wherever the folder is now."""
        self._best.score, self._best.loss = state_dict["best_model_score"], state_dict.get("best_model_loss", torch.inf)
        here = self.folder / Path(state_dict["best_model_path"]).name
        self.best_model_path = str(here) if here.is_file() else state_dict["best_model_path"]
        last = self.folder / "last.ckpt"
        self.last_model_path = str(last) if last.is_file() else ""


def _watchers(trainer: Trainer) -> list[Divergence]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, Divergence)]


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
