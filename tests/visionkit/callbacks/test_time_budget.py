"""Training for a time: the epochs that fit are chosen, and the schedule ends with them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import timer

from tests.tiny_training import end_state, train
from visionkit.callbacks import time_budget
from visionkit.callbacks.time_budget import Pace, Plan, TimeBudget
from visionkit.callbacks.trial_steps import without_trace
from visionkit.checkpoint import find_last, read_checkpoint
from visionkit.errors import UsageError
from visionkit.run_report import summary

PACE = Pace(batch=1.0, validation=1.0, batches=10, validations=1.0)


class Clock(Callback):
    """A clock on which each training batch takes as long as it is set to; it may stop the training at a step."""

    def __init__(self, *seconds: float, end: int = -1) -> None:
        self.now, self.seconds, self.end = 100.0, list(seconds), end

    def monotonic(self) -> float:
        return self.now

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.end:
            raise KeyboardInterrupt
        self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains for a time on a clock of its own; `measured` is the pace that was found beforehand."""

    def run(folder: Path, max_time: str, clock: Clock, measured: Pace | None = PACE, **options: Any) -> Trainer:
        def measure(*args: Any) -> Pace:
            assert measured is not None, "measured again"
            return measured

        for module in (timer, time_budget):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
        monkeypatch.setattr(time_budget, "measured_pace", measure)
        return train(folder, extra=[TimeBudget(max_time), clock], **{"max_epochs": None, "report": False, **options})

    return run


def rates(trainer: Trainer) -> list[float]:
    return [group["lr"] for group in trainer.optimizers[0].param_groups]


@pytest.mark.parametrize(
    ("pace", "seconds", "plan"),
    [
        (PACE, 33.0, Plan(3)),
        (PACE, 32.9, Plan(2)),
        (PACE, 10.0, Plan(1, 9)),
        (PACE, 0.5, Plan(1, 1)),
        (PACE, -40.0, Plan(1, 1)),
        (Pace(1.0, 1.0, 10, 0.5), 32.0, Plan(3)),
        (Pace(1.0, 1.0, 10, 2.0), 32.0, Plan(2)),
        (Pace(1.0, 1.0, 10, 1.0, accumulate=4), 10.0, Plan(1, 2)),
    ],
)
def test_as_many_whole_epochs_as_fit_and_else_steps(pace: Pace, seconds: float, plan: Plan) -> None:
    assert pace.plan(seconds) == plan


@pytest.mark.parametrize(
    ("max_time", "options", "steps", "line"),
    [
        ("40s", {}, 30, "--max_time 40s: 3 epochs of about 11 s"),
        ("40s", {"max_epochs": 2}, 20, "all that trainer.max_epochs or max_steps allows fits"),
        ("40s", {"max_epochs": 8}, 30, "3 epochs"),
        ("40s", {"max_steps": 7}, 7, "allows fits"),
        ("8s", {}, 5, "5 steps (an epoch takes about 11 s)"),
    ],
)
def test_the_schedule_ends_with_the_epochs_that_were_chosen(
    tmp_path: Path, paced: Any, max_time: str, options: Any, steps: int, line: str, capsys: Any
) -> None:
    trainer = paced(tmp_path, max_time, Clock(0.5), **options)
    assert trainer.global_step == steps and rates(trainer) == pytest.approx([0.0] * len(rates(trainer)))
    assert line in capsys.readouterr().err and not summary.stopped_early(trainer)
    assert list((tmp_path / "checkpoints").glob("best*.ckpt")), "validated at the end"


def test_a_stopped_run_goes_on_with_the_same_schedule(tmp_path: Path, paced: Any) -> None:
    whole = paced(tmp_path / "whole", "30s", Clock(0.1))
    assert whole.global_step == 20
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        paced(tmp_path / "parts", "30s", Clock(0.1, end=13))
    assert paced(tmp_path / "parts", "30s", Clock(0.1), measured=None).global_step == 20
    assert end_state(tmp_path / "parts") == end_state(tmp_path / "whole")
    # The time that was used counts: nothing is left of a shorter one.
    late = paced(tmp_path / "whole", "1s", Clock(0.1), measured=None)
    assert late.global_step == 20


def test_a_run_without_a_time_has_a_length_already(tmp_path: Path, paced: Any) -> None:
    train(tmp_path, max_epochs=1)
    with pytest.raises(UsageError, match="the run began without it"):
        paced(tmp_path, "30s", Clock(0.1), measured=None)
    assert paced(tmp_path, "30s", Clock(0.1), measured=None, max_epochs=2).global_step == 20


def test_slow_epochs_shorten_the_schedule(tmp_path: Path, paced: Any, capsys: Any) -> None:
    trainer = paced(tmp_path / "epochs", "60s", Clock(1.5))  # 5 epochs of 11 s were planned, and each takes 15 s
    assert trainer.global_step == 40 and rates(trainer) == pytest.approx([0.0] * len(rates(trainer)), abs=1e-9)
    assert "an epoch takes 15 s, so training ends after epoch 4 of 5" in capsys.readouterr().err
    trainer = paced(tmp_path / "steps", "26s", Clock(2.0))
    assert trainer.global_step == 13 and rates(trainer) == pytest.approx([0.0] * len(rates(trainer)), abs=1e-9)


def test_the_end_of_the_time_is_the_end(tmp_path: Path, paced: Any) -> None:
    clock = Clock(*[0.1] * 14, 100.0)
    trainer = paced(tmp_path, "40s", clock, accumulate_grad_batches=2)
    assert 7 <= trainer.global_step <= 8
    assert summary.stopped_early(trainer).endswith("--max_time 40s is over")
    last = find_last(tmp_path / "checkpoints")
    assert last is not None and read_checkpoint(last)["global_step"] == trainer.global_step


def test_one_step_is_taken_where_measuring_uses_up_the_time(tmp_path: Path, paced: Any) -> None:
    clock = Clock(0.1)

    def asked() -> float:
        clock.now += 1.0
        return clock.now

    clock.monotonic = asked  # type: ignore[method-assign]
    assert paced(tmp_path, "1s", clock).global_step == 1
    assert find_last(tmp_path / "checkpoints") is not None


def test_measuring_leaves_no_trace(tmp_path: Path) -> None:
    train(tmp_path / "plain", max_epochs=2, report=False)
    budget = TimeBudget("1h")
    train(tmp_path / "timed", max_epochs=2, report=False, extra=[budget])
    assert budget.plan == Plan(2) and end_state(tmp_path / "timed") == end_state(tmp_path / "plain")


def test_what_a_trial_changes_is_put_back(tmp_path: Path) -> None:
    """Also what is no weight: plain numbers, lists and tensors that modules keep beside their parameters."""

    class Try(Callback):
        def on_train_start(self, trainer: Trainer, module: Any) -> None:
            part, kept = module.network, torch.zeros(3)
            part.counter, part.seen, part.kept, part.named = 1, [1], kept, {"a": 1}
            random = torch.get_rng_state()
            weights = {name: value.clone() for name, value in module.state_dict().items()}
            with without_trace(trainer):
                part.counter, part.kept = 2, torch.ones(3)
                kept += 1
                part.seen.append(2)
                part.named["b"] = 2
                torch.rand(3)
                module.eval()
                for value in module.state_dict().values():
                    value.zero_()
            assert part.counter == 1 and part.seen == [1] and part.named == {"a": 1}
            assert part.kept is kept and not kept.any() and module.training
            assert torch.equal(torch.get_rng_state(), random)
            assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
            for name in ("counter", "seen", "kept", "named"):
                delattr(part, name)

    train(tmp_path, max_steps=1, extra=[Try()])
