"""`--find_lr`: the learning-rate range test of Smith (2017, "Cyclical Learning Rates", arXiv:1506.01186)."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from visionkit.atomic import atomic_file
from visionkit.callbacks.trial_steps import backward, endless, without_trace
from visionkit.errors import UsageError
from visionkit.wording import counted

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
"""Learning rates between which the test goes, and its steps."""

_SMOOTHING = 0.9
_DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its lowest value."""

_LEAST_DROP = 0.02
"""Fraction of the first loss that it has to fall by, for a suggestion."""


@dataclass(frozen=True)
class RangeTest:
    """The losses of a training whose learning rate grows with every step.

    Attributes:
        rates: Learning rates, `optim.lr` of each step.
        losses: Loss of each step.
        ended: It ended before the highest learning rate, since the loss rose.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    ended: bool = False

    @property
    def smoothed(self) -> list[float]:
        """The losses as a moving average that is not biased towards its beginning."""
        values: list[float] = []
        mean = 0.0
        for number, loss in enumerate(self.losses, start=1):
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            values.append(mean / (1 - _SMOOTHING**number))
        return values

    @property
    def lowest(self) -> float | None:
        """The learning rate at which the smoothed loss is lowest; None where it hardly fell."""
        smoothed = self.smoothed
        start = len(smoothed) // 10
        if start >= len(smoothed):
            return None
        at = min(range(start, len(smoothed)), key=smoothed.__getitem__)
        before = max(smoothed[start : at + 1])
        return self.rates[at] if before - smoothed[at] > _LEAST_DROP * abs(before) else None

    @property
    def suggested(self) -> float | None:
        """A tenth of that, in two digits: where the loss falls, well before it rises."""
        return None if self.lowest is None else float(f"{self.lowest / 10:.2g}")


class LRRangeTest(Callback):
    """Tries growing learning rates before the first step, writes what the loss does, and ends the training.

    The optimizer and its groups are those of the training, and the ratios of their learning rates are kept
    (`backbone_lr_scale`, `layer_decay`). The task's weights are what they were afterwards.

    Args:
        folder: `find_lr.csv` and `find_lr.png` are written into it.
        command: The command line, to suggest the next one.

    Attributes:
        found: What was measured; None before.
    """

    def __init__(self, folder: str | Path, command: str = "") -> None:
        self.folder, self.command = Path(folder), command
        self.found: RangeTest | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"find_lr: up to {STEPS} steps with a growing learning rate", flush=True)
        self.found = range_test(trainer)
        trainer.fit_loop.max_epochs = 0  # nothing is trained
        if trainer.is_global_zero:
            self._write(self.found)
            print("\n".join(self.lines(self.found)), flush=True)

    def _write(self, found: RangeTest) -> None:
        with atomic_file(self.folder / "find_lr.csv") as file:
            rows = zip(found.rates, found.losses, found.smoothed, strict=True)
            lines = ["lr,loss,smoothed", *(",".join(f"{value:.6g}" for value in row) for row in rows)]
            file.write("\n".join([*lines, ""]).encode("utf-8"))
        draw(found).save(self.folder / "find_lr.png")

    def lines(self, found: RangeTest) -> list[str]:
        """What is printed: the result, the suggestion, and the command that trains with it."""
        tried = f"find_lr: {counted(len(found.rates), 'step')} from {found.rates[0]:.1g} to {found.rates[-1]:.2g}"
        seen = f"see {self.folder / 'find_lr.png'}"
        if found.suggested is None:
            return [f"{tried}: the loss did not fall at any learning rate, so none is suggested; check labels ({seen})"]
        rises = f"and rises up to {found.rates[-1]:.2g}" if found.ended else "and does not diverge"
        return [
            f"{tried}: the loss is lowest at {found.lowest:.2g} {rises} ({seen})",
            f"suggested: --model.optim.lr {found.suggested:g}, a tenth of that",
            f"next: {with_rate(self.command, found.suggested)}" if self.command else "",
        ]


def with_rate(command: str, rate: float) -> str:
    """A command line that trains with that learning rate in place of searching for one."""
    kept: list[str] = []
    parts = shlex.split(command)
    skip = False
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else "-"
        if skip:
            skip = False
        elif part in ("--find_lr", "--model.optim.lr"):
            skip = not following.startswith("-")
        elif not part.startswith(("--find_lr=", "--model.optim.lr=")):
            kept.append(part)
    return shlex.join([*kept, "--model.optim.lr", f"{rate:g}"])


def range_test(trainer: Trainer) -> RangeTest:
    """Takes steps with a growing learning rate, and leaves no trace in the task.

    Args:
        trainer: Trainer of a training that has begun, before its first step.

    Raises:
        UsageError: The task's parts have learning rates of their own.
    """
    task: Any = trainer.lightning_module
    if task.parts():
        raise UsageError(
            f"--find_lr: {task.name} trains {', '.join(task.parts())} against each other, where the loss states "
            "nothing of the learning rate; set the learning rates of the parts"
        )
    rates: list[float] = []
    losses: list[float] = []
    lowest, mean = math.inf, 0.0
    with without_trace(trainer):
        batches = endless(trainer, trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        optimizer = trainer.optimizers[0]
        # The schedule has set its first rate already.
        peaks = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        for number in range(STEPS):
            rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate / task.optim.lr
            taken: list[Tensor] = []
            trainer.strategy.optimizer_step(optimizer, partial(_step, trainer, next(batches), taken))
            value = float(trainer.strategy.reduce(taken[0], reduce_op="mean"))
            if not math.isfinite(value):
                return RangeTest(rates, losses, ended=True)
            rates.append(rate)
            losses.append(value)
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
            smoothed = mean / (1 - _SMOOTHING ** (number + 1))
            lowest = min(lowest, smoothed)
            if number >= STEPS // 10 and smoothed > _DIVERGED * lowest:
                return RangeTest(rates, losses, ended=True)
    return RangeTest(rates, losses)


def _step(trainer: Trainer, batch: Any, taken: list[Tensor]) -> Tensor:
    """The closure of an optimizer's step; not every precision hands on what it returns."""
    taken.append(backward(trainer, batch))
    return taken[0]


def draw(found: RangeTest) -> Any:
    """The plot: loss over learning rate, with rings at the lowest loss and at the suggestion."""
    from visionkit.run_report.plots import Line, Panel, draw_panel

    smoothed = found.smoothed
    title, rings = "Loss over learning rate: no suggestion", []
    if found.suggested is not None and found.lowest is not None:
        title = f"Loss over learning rate: {found.suggested:g} suggested"
        for rate in (found.suggested, found.lowest):
            apart = [abs(math.log(each / rate)) for each in found.rates]
            at = apart.index(min(apart))
            rings.append((found.rates[at], smoothed[at]))
    low, high = min(found.losses), max(smoothed[0], *smoothed[: len(smoothed) // 2 + 1])
    limits = (low - 0.1 * (high - low), high + 0.5 * (high - low)) if high > low else None
    lines = [Line("smoothed", found.rates, smoothed), Line("loss of each step", found.rates, found.losses, width=1)]
    return draw_panel(
        Panel(title, "learning rate (optim.lr)", "loss", lines, y_limits=limits, log_x=True, marks=rings), (840, 480)
    )
