"""The learning-rate range test: what it suggests, what it writes, and that it leaves no trace."""

from __future__ import annotations

import csv
import itertools
import math
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tiny_training import NoiseData, tiny_task
from visionkit import fit
from visionkit.callbacks import lr_range
from visionkit.callbacks.lr_range import LRRangeTest, RangeTest, with_rate
from visionkit.errors import UsageError
from visionkit.optim import OptimConfig

RATES = [1e-7 * 1e7 ** (k / 99) for k in range(100)]


def valley(lowest: float, depth: float = 1.0) -> list[float]:
    """A loss of 2 that falls by `depth` around one learning rate, and rises beyond it."""
    return [2 - depth * math.exp(-(math.log10(rate / lowest) ** 2)) + max(0.0, 30 * (rate - lowest)) for rate in RATES]


@pytest.mark.parametrize("lowest", [1e-3, 1e-2])
def test_the_suggestion_is_a_tenth_of_the_lowest_loss(lowest: float) -> None:
    found = RangeTest(RATES, valley(lowest), ended=True)
    assert found.lowest is not None and lowest / 1.5 < found.lowest < lowest * 4  # a moving average lags behind
    assert found.suggested == pytest.approx(found.lowest / 10, rel=0.05)
    lines = LRRangeTest("runs/a", "visionkit fit --find_lr -c x").lines(found)
    assert lines[-1] == f"next: visionkit fit -c x --model.optim.lr {found.suggested:g}"


@pytest.mark.parametrize("losses", [[2.0] * 100, valley(1e-2, depth=0.001), [1.0 + k for k in range(100)], [2.0], []])
def test_a_loss_that_does_not_fall_suggests_nothing(losses: list[float]) -> None:
    found = RangeTest(RATES[: len(losses)], losses)
    assert found.suggested is None


@pytest.mark.parametrize(
    "command",
    [
        "visionkit fit --find_lr -c a.yaml --run 'my runs/a'",
        "visionkit fit -c a.yaml --find_lr true --run 'my runs/a' --model.optim.lr 0.1",
        "visionkit fit -c a.yaml --run 'my runs/a' --model.optim.lr=0.1 --find_lr=true",
        "visionkit fit -c a.yaml --run 'my runs/a' --find_lr",
    ],
)
def test_the_next_command_trains_with_it(command: str) -> None:
    assert shlex.split(with_rate(command, 3e-3)) == [
        *("visionkit", "fit", "-c", "a.yaml", "--run", "my runs/a", "--model.optim.lr", "0.003")
    ]


def test_find_lr_writes_a_plot_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[list[float]] = []
    monkeypatch.setattr(lr_range, "STEPS", 30)
    step = lr_range._step

    def watched(trainer, batch, taken):  # type: ignore[no-untyped-def]
        steps.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        return step(trainer, batch, taken)

    monkeypatch.setattr(lr_range, "_step", watched)
    task = tiny_task(optim=OptimConfig(lr=1e-3, backbone_lr_scale=0.1), mixup=0.0)
    task.started_from = "weights of yesterday"  # random ones are all trained at one rate
    before = {name: value.clone() for name, value in task.state_dict().items()}
    data = NoiseData(input=task.input, classes=task.classes, batch_size=8)
    run = fit(task, data, run=tmp_path, find_lr=True, accelerator="cpu")
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["find_lr.csv", "find_lr.png"]
    assert not list(tmp_path.rglob("*.ckpt")) and run.best is run.last is None
    with (tmp_path / "find_lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) in (len(steps), len(steps) - 1) and float(rows[0]["lr"]) == pytest.approx(1e-7)
    # The ratio of backbone and head is kept, and both grow with each step.
    assert all(max(rates) / min(rates) == pytest.approx(10) for rates in steps)
    assert all(after[0] > first[0] for first, after in itertools.pairwise(steps))
    assert Image.open(tmp_path / "find_lr.png").width == 840
    message = capsys.readouterr().out
    assert ("suggested: --model.optim.lr" in message) == ("suggested_lr" in run.metrics)
    assert "find_lr: " in message and "site-packages" not in message
    # The folder is free for the training itself, and a training that goes on has no first steps.
    trained = fit(task, data, run=tmp_path, max_epochs=1, accelerator="cpu", enable_progress_bar=False, report=False)
    with pytest.raises(UsageError, match="tests the first steps"):
        fit(task, data, run=tmp_path, ckpt_path=trained.last, find_lr=True, accelerator="cpu")
