"""Refuses callbacks and schedules that watch a metric which the task does not log."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.callbacks.checkpointing import Checkpointing
from visionkit.errors import UsageError, suggest

_TRAIN = ("train/loss",)


class CheckMonitors(Callback):
    """Compares what is watched with what is logged, by the validation that Lightning runs before training.

    Where that one is off (`num_sanity_val_steps: 0`) or left out after a resume, the first validation decides.
    """

    def __init__(self) -> None:
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.enable_validation:
            self._check(trainer, ())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done = self._done or trainer.state.fn != "fit"
        if not self._done:
            self._check(trainer, [name for name in trainer.callback_metrics if not name.startswith("train/")])

    def _check(self, trainer: Trainer, logged: Any) -> None:
        self._done = True
        known = [*logged, *_TRAIN]
        for owner, name in _watched(trainer):
            if name not in known:
                raise UsageError(
                    f"{owner}: monitor {name!r} is not logged; these are: {', '.join(known)}{suggest(name, known)}"
                )


def _watched(trainer: Trainer) -> list[tuple[str, str]]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    # The task names that of `Checkpointing` itself, which is missed only where nothing is validated.
    found = [
        (type(each).__name__, getattr(each, "monitor", None))
        for each in callbacks
        if not isinstance(each, Checkpointing)
    ]
    found += [(type(each.scheduler).__name__, each.monitor) for each in trainer.lr_scheduler_configs]
    return [(owner, name) for owner, name in found if isinstance(name, str)]
