"""What a training begins with, where a resumed one goes on, and why there may be nothing to train."""

from __future__ import annotations

import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from visionkit.backbones import Backbone, backbone_facts
from visionkit.callbacks.early_stopping import EarlyStop
from visionkit.callbacks.time_budget import TimeBudget
from visionkit.contract import RANDOM
from visionkit.durations import duration_text
from visionkit.resume import Position, place_text, settled
from visionkit.wording import counted


class StartingPoint(Callback):
    """States the weights that a training begins with and how many of them are trained.

    Of a resumed one it states the step and the checkpoint that it goes on from. Where no step is left to take, it
    states which limit was reached, and what to set to train on.
    """

    def __init__(self) -> None:
        self._place: Position | None = None
        self._begun = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        loops = (checkpoint.get("loops") or {}).get("fit_loop")
        if trainer.state.fn == "fit" and loops is not None:
            self._place = settled(loops)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Of a stop that comes before `min_epochs` or `min_steps` Lightning takes no notice.
        self._begun = not (trainer.should_stop and trainer.fit_loop._can_stop_early)
        if not trainer.is_global_zero or not self._begun:
            return
        task: Any = pl_module
        whole = sum(each.numel() for each in task.parameters())
        trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
        part = f"{trained:,} of {whole:,} parameters are trained" if trained < whole else f"{whole:,} parameters"
        print(f"model ({type(task).__name__}):\n  {self._begins(trainer, task)}\n  {part}", flush=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not self._begun:
            where = f"{trainer.ckpt_path}: this run is finished" if self._place else "there is nothing to train"
            print(f"{where}: {_limit(trainer)}", file=sys.stderr, flush=True)

    def _begins(self, trainer: Trainer, task: Any) -> str:
        backbone = getattr(task.network, "backbone", None)
        name = backbone.name if isinstance(backbone, Backbone) else getattr(task, "chosen", type(task.network).__name__)
        if self._place is not None:
            place = place_text(self._place, trainer.max_epochs)
            return f"{name} goes on from step {trainer.global_step} ({place}) of {trainer.ckpt_path}"
        made = getattr(getattr(task, "architecture", None), "first_weights", None)
        advice = ""
        if isinstance(backbone, Backbone) and not task.started_from and backbone_facts(backbone.name).has_weights:
            advice = " (--model.pretrained true fetches public ones)"
        return f"{name} starts from {task.started_from or made or RANDOM}{advice}"


def _limit(trainer: Trainer) -> str:
    """The limit that leaves no step to take, and what to set to train on."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    budget = next((each for each in callbacks if isinstance(each, TimeBudget)), None)
    timer = next((each for each in callbacks if isinstance(each, Timer) and each is not budget), None)
    stop = next((each for each in callbacks if isinstance(each, EarlyStop) and each.is_over), None)
    progress: Any = trainer.fit_loop.epoch_progress.current
    epochs, steps = trainer.max_epochs, trainer.max_steps
    by_steps = 0 <= steps <= trainer.global_step
    by_epochs = epochs is not None and 0 <= epochs <= progress.processed
    if by_steps or by_epochs:
        name = "max_steps" if by_steps else "max_epochs"
        if budget is not None and budget.is_chosen:
            number = counted(steps, "step") if by_steps else counted(epochs or 0, "epoch")
            return f"{budget.name} chose {number}; to train on, give --max_time null and a larger --trainer.{name}"
        reached = steps if by_steps else epochs
        return f"trainer.{name} {reached} is reached; to train on, give a larger --trainer.{name}"
    if stop is not None:
        return f"early_stopping {stop.patience} is reached; to train on, give a larger --early_stopping"
    if budget is not None and budget.time_elapsed() >= budget.seconds:
        return f"{budget.name} is used up; to train on, give a longer --max_time"
    if timer is not None and (timer.time_remaining() or 0) <= 0:
        used = duration_text(timer.time_elapsed())
        return f"trainer.max_time is used up ({used}); to train on, give a longer --trainer.max_time"
    return "it has no training batch; see trainer.limit_train_batches and the size of the data"
