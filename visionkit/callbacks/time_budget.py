"""`--max_time 10m`: as many epochs as fit into a time, so that the schedule of the learning rate ends within it."""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import RunningStage

from visionkit.callbacks.agreement import Agreement
from visionkit.callbacks.trial_steps import backward, endless, synchronize, to_device, without_trace
from visionkit.durations import duration_text, seconds_of
from visionkit.errors import UsageError
from visionkit.optim import set_total_steps
from visionkit.wording import counted, epoch_text

_RESERVE = 0.95
"""Fraction of the time that is planned with; checkpoints and figures take the rest."""

_WARM_UP, _MOST = 2, 10
"""Batches before the pace is measured, and those that it is measured on."""

_MEASURING = 0.03
"""Fraction of the time that measuring may take."""


@dataclass(frozen=True)
class Plan:
    """How long a training is.

    Attributes:
        epochs: Epochs at most.
        steps: Optimizer steps at most; -1 is no limit.
    """

    epochs: int
    steps: int = -1


@dataclass(frozen=True)
class Pace:
    """Seconds that parts of a training take.

    Attributes:
        batch: One training batch.
        validation: One whole validation.
        batches: Training batches per epoch.
        validations: Validations per epoch.
        accumulate: Training batches per optimizer step.
    """

    batch: float
    validation: float
    batches: float
    validations: float
    accumulate: int = 1

    @property
    def epoch(self) -> float:
        """Seconds of an epoch with its validations."""
        return self.batch * self.batches + self.validation * self.validations

    def plan(self, seconds: float) -> Plan:
        """As many whole epochs as fit, and where none does, as many steps before one validation; at least one."""
        epochs = int(seconds / self.epoch)
        if epochs > 0:
            return Plan(epochs)
        steps = int((seconds - self.validation) / (self.batch * self.accumulate))
        return Plan(1, max(1, steps))


class TimeBudget(Timer):
    """Chooses the epochs of a training by its time, and ends it when the time is over.

    Lightning's timer alone stops wherever training is, with the learning rate of that step. Here the pace is measured
    on a few batches before the first step, the schedule is made for the epochs that fit, and where they take longer
    than that, it is shortened from the next epoch on. The plan and the time that was used are in the checkpoint, so a
    resumed run goes on with both.

    Args:
        max_time: The time, see `visionkit.durations.seconds_of`.
        reported: The best checkpoint is evaluated once more at the end, which takes the time of a validation.

    Attributes:
        plan: What was chosen; None before.
        stopped_early: Why training ended before its plan did; "" where it did not.
    """

    def __init__(self, max_time: Any, reported: bool = True) -> None:
        self.seconds = seconds_of(max_time, "max_time")
        super().__init__(timedelta(seconds=self.seconds), verbose=False)
        self.name = f"--max_time {max_time if isinstance(max_time, str) else duration_text(self.seconds)}"
        self.reported = reported
        self.plan: Plan | None = None
        self.stopped_early = ""
        self._typed = Plan(-1)
        self._agreement: Agreement | None = None
        self._first: tuple[int, float] | None = None

    @property
    def state_key(self) -> str:
        """One per run, whatever its arguments."""
        return "TimeBudget"

    @property
    def is_chosen(self) -> bool:
        """Whether the time chose the length of the training, and not `max_epochs` or `max_steps`."""
        return self.plan is not None and self.plan != self._typed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        fit_loop = trainer.fit_loop
        self._typed = Plan(-1 if fit_loop.max_epochs is None else fit_loop.max_epochs, fit_loop.max_steps)
        if self._typed == Plan(-1):
            fit_loop.max_epochs = 1  # the schedule is made twice: it needs a length before the pace is known

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        stored = checkpoint.get("callbacks", {}).get(self.state_key)
        if stored and stored["plan"]:
            self.plan = Plan(**stored["plan"])
            self._settle(trainer)
        elif self._typed == Plan(-1):
            raise UsageError(
                f"{self.name}: the run began without it, so its schedule has a length already; give its "
                "--trainer.max_epochs too"
            )
        else:
            self.plan = self._typed

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._start_time[RunningStage.TRAINING] = time.monotonic()  # measuring counts too

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._agreement = Agreement(trainer)
        if self.plan is None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            pace = measured_pace(trainer, self.seconds)
            self.plan, line = trainer.strategy.broadcast(self._chosen(pace, trainer.min_epochs or 1))
            self._settle(trainer)
            trainer.strategy.setup_optimizers(trainer)
            if trainer.is_global_zero:
                print(f"{self.name}: {line}", file=sys.stderr, flush=True)
        elif self._over(now=True):  # a training that begins takes one step at least
            trainer.should_stop = True  # `StartingPoint` states why

    def _chosen(self, pace: Pace, least: int) -> tuple[Plan, str]:
        """The plan within what was typed, and the line that states it."""
        left = self.seconds * _RESERVE - self.time_elapsed() - self.reported * pace.validation
        plan, typed = pace.plan(left), self._typed
        long = f"an epoch takes about {duration_text(pace.epoch)}"
        if plan.steps > 0 and not 0 < typed.steps <= plan.steps:
            return plan, f"{counted(plan.steps, 'step')} ({long})"
        plan = Plan(max(plan.epochs, least))
        if 0 <= typed.epochs <= plan.epochs or 0 < typed.steps <= plan.epochs * pace.batches / pace.accumulate:
            return typed, f"all that trainer.max_epochs or max_steps allows fits ({long})"
        return Plan(plan.epochs, typed.steps), f"{counted(plan.epochs, 'epoch')} of about {duration_text(pace.epoch)}"

    def _settle(self, trainer: Trainer) -> None:
        assert self.plan is not None
        trainer.fit_loop.max_epochs = self.plan.epochs
        trainer.fit_loop.epoch_loop.max_steps = self.plan.steps

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shortens the plan where the epochs take longer than measured."""
        plan, done = self.plan, trainer.current_epoch
        if self._first is None:  # a resume within an epoch does not begin it
            self._first = done, time.monotonic()
        begun, since = self._first
        if plan is None or plan.epochs < 0 or done == begun:
            return
        mean = (time.monotonic() - since) / (done - begun)
        fit = trainer.strategy.broadcast((self.seconds - self.time_elapsed()) / mean)
        if fit >= plan.epochs - done:
            return
        per_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        if fit >= 1:
            self.plan = Plan(done + int(fit), plan.steps)
        else:
            self.plan = Plan(done + 1, trainer.global_step + max(1, int(fit * per_epoch)))
        self._settle(trainer)
        for config in trainer.lr_scheduler_configs:
            set_total_steps(config.scheduler, trainer.estimated_stepping_batches)
        if trainer.is_global_zero:
            shortened = f"an epoch takes {duration_text(mean)}, so training ends after epoch {self.plan.epochs}"
            print(f"{self.name}: {shortened} of {plan.epochs}", file=sys.stderr, flush=True)

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        over = self._over()
        if trainer.fit_loop._should_accumulate():
            return
        if over and not trainer.should_stop:
            place = f"in {epoch_text(trainer.current_epoch, trainer.max_epochs)}"
            self.stopped_early = f"stopped {place} after {counted(trainer.global_step, 'step')}: {self.name} is over"
        # Within an epoch, it is a request to stop that Lightning validates at.
        trainer.should_stop = trainer.should_stop or over or trainer.global_step == trainer.max_steps

    def on_train_epoch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Nothing: the time is checked after each batch."""

    def _over(self, now: bool = False) -> bool:
        """Whether the time is over on some process."""
        assert self._agreement is not None
        over = int(self.time_elapsed() >= self.seconds)
        return bool(self._agreement.now(over) if now else self._agreement.last(over))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._agreement is not None:
            self._agreement.close()
        self._agreement = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "plan": None if self.plan is None else asdict(self.plan)}


def measured_pace(trainer: Trainer, seconds: float) -> Pace:
    """Measures how long a training batch and a validation take, and leaves no trace in the task.

    Args:
        trainer: Trainer of a training that has begun, before its first step.
        seconds: The time that a training may take; a small part of it is used.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    with without_trace(trainer):
        batches = endless(trainer, data.train_dataloader())
        for _ in range(_WARM_UP):
            one = _timed(trainer, lambda: backward(trainer, next(batches)))
        count = int(min(_MOST, max(1.0, seconds * _MEASURING / one)))
        count = trainer.strategy.broadcast(count)
        total = _timed(trainer, lambda: [backward(trainer, next(batches)) for _ in range(count)])
        validation = _validation(trainer, data) if trainer.enable_validation else 0.0
    limit: Any = trainer.val_check_batch
    per_epoch = trainer.num_training_batches / limit if limit else 1.0
    return Pace(
        batch=total / count,
        validation=validation,
        batches=trainer.num_training_batches,
        validations=per_epoch / (trainer.check_val_every_n_epoch or 1),
        accumulate=trainer.accumulate_grad_batches,
    )


def _validation(trainer: Trainer, data: Any) -> float:
    """Seconds of a whole validation, from some of its batches."""
    task: Any = trainer.lightning_module
    batches = iter(data.val_dataloader())
    task.eval()

    def step(number: int) -> int:
        batch = next(batches, None)
        if batch is None:
            return 0
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            task.validation_step(to_device(trainer, batch), number)
        return 1

    total = sum(trainer.num_val_batches)
    first = _timed(trainer, lambda: step(0))
    done = 0

    def more() -> None:
        nonlocal done
        done = sum(itertools.takewhile(bool, (step(1 + number) for number in range(3))))

    rest = _timed(trainer, more)
    return total * (rest / done if done else first)


def _timed(trainer: Trainer, work: Any) -> float:
    synchronize(trainer)
    began = time.monotonic()
    work()
    synchronize(trainer)
    return time.monotonic() - began
