from __future__ import annotations

import csv
import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from tests.tiny_training import NoiseData, tiny_task, train
from visionkit.callbacks import (
    EMA,
    CheckMonitors,
    Checkpointing,
    ConfigSaver,
    Lines,
    Seeding,
    Unfreezing,
    default_callbacks,
)
from visionkit.callbacks.best import Best
from visionkit.callbacks.seeding import mixed
from visionkit.checkpoint import describe, load_task
from visionkit.errors import UsageError


class Watch(Callback):
    """Calls a function at the end of each training batch."""

    def __init__(self, look: Any) -> None:
        self.look = look

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.look(trainer, pl_module)


def fit(tmp_path: Path, callbacks: list[Callback], task: Any = None, **options: Any) -> Trainer:
    task = task or tiny_task()
    data = NoiseData(input=task.input, classes=task.classes, batch_size=4, seed=1)
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(each, Checkpointing) for each in callbacks),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 5,
    }
    trainer = Trainer(default_root_dir=tmp_path, callbacks=callbacks, **{**settings, **options})
    trainer.fit(task, datamodule=data)
    return trainer


# ---------------------------------------------------------------------- averaging


def test_the_average_is_what_is_served_and_what_is_trained_is_kept(tmp_path: Path) -> None:
    """Recomputed by hand from the weights after each step."""
    decay, name = 0.8, "network.backbone.model.conv1.0.weight"
    by_hand: list[torch.Tensor] = []

    def follow(trainer: Trainer, module: Any) -> None:
        now = module.state_dict()[name].clone()
        if not by_hand:
            by_hand.extend((start, start.clone()))
        n = trainer.global_step
        keep = min(decay, (1 + n) / (10 + n))
        by_hand[0] = by_hand[0] * keep + now * (1 - keep)
        by_hand[1] = now

    task = tiny_task()
    start = task.state_dict()[name].clone()
    checkpointing = Checkpointing(tmp_path, "val/top1")
    fit(tmp_path, [EMA(decay), Watch(follow), checkpointing], task)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(saved["state_dict"][name], by_hand[0])
    torch.testing.assert_close(saved["current_model_state"][name], by_hand[1], rtol=0, atol=0)
    assert saved["averaging_state"]["updates"] == 10
    assert torch.equal(
        task.state_dict()[name], saved["state_dict"][name]
    )  # after training the module holds the average
    assert torch.equal(load_task(tmp_path / "last.ckpt").state_dict()[name], saved["state_dict"][name])


def test_counters_are_not_averaged(tmp_path: Path) -> None:
    task = tiny_task()
    fit(tmp_path, [EMA(0.5)], task)
    counters = [value for name, value in task.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counters and all(value == 10 for value in counters)


def test_validation_measures_the_average_and_training_goes_on_from_its_own(tmp_path: Path) -> None:
    name = "network.backbone.model.conv1.0.weight"
    seen: dict[str, torch.Tensor] = {}

    class Compare(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
            seen["trained"] = module.state_dict()[name].clone()

        def on_validation_batch_start(self, trainer: Trainer, module: Any, *args: Any) -> None:
            seen["validated"] = module.state_dict()[name].clone()

        def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
            seen["after"] = module.state_dict()[name].clone()

    fit(tmp_path, [EMA(0.9), Compare()])
    assert not torch.equal(seen["validated"], seen["trained"])
    assert torch.equal(seen["after"], seen["trained"])


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(UsageError, match="ema"):
        EMA(decay)


# ---------------------------------------------------------------------- checkpoints


def test_one_best_and_one_last_are_kept(tmp_path: Path) -> None:
    scores = iter([0.5, 0.25, 0.75, math.nan, 0.5])

    class Scores(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
            module.log("val/score", next(scores))

    checkpointing = Checkpointing(tmp_path, "val/score", "max")
    fit(tmp_path, [Scores(), checkpointing], max_epochs=5)
    assert sorted(p.name for p in tmp_path.glob("*.ckpt")) == ["best-step000030-score-0.7500.ckpt", "last.ckpt"]
    assert checkpointing.best_model_path == str(tmp_path / "best-step000030-score-0.7500.ckpt")
    assert float(checkpointing.best_model_score) == 0.75  # type: ignore[arg-type]
    assert describe(checkpointing.best_model_path)["step"] == 30
    assert describe(tmp_path / "last.ckpt")["step"] == 50


def test_a_metric_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"val/top2 was not logged.*val/top1"):
        fit(tmp_path, [Checkpointing(tmp_path, "val/top2")])


def test_nothing_is_saved_within_accumulated_gradients(tmp_path: Path) -> None:
    places: list[tuple[int, int]] = []
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    original = checkpointing._after

    def after(trainer: Trainer, place: Any) -> None:
        places.append((place[0], place[1].batches))
        original(trainer, place)

    checkpointing._after = after  # type: ignore[method-assign]
    fit(tmp_path, [checkpointing], accumulate_grad_batches=4)
    assert places == [(1, 4), (2, 8), (3, 10), (3, 0)]


# ---------------------------------------------------------------------- seeds, parts, configuration, progress


def test_each_batch_has_its_own_randomness_and_the_same_in_every_run(tmp_path: Path) -> None:
    def draws(folder: Path) -> list[tuple[float, float]]:
        seen: list[tuple[float, float]] = []

        class Draw(Callback):
            def on_train_batch_start(self, *args: Any) -> None:
                seen.append((torch.rand(()).item(), np.random.rand()))  # noqa: NPY002

        fit(folder, [Seeding(), Draw()])
        return seen

    first, second = draws(tmp_path / "a"), draws(tmp_path / "b")
    assert first == second
    assert len(set(first)) == len(first) == 10


def test_mixed_numbers_differ_in_about_half_of_their_bits() -> None:
    values = [mixed(1, 2, batch, 0) for batch in range(200)]
    assert len(set(values)) == 200
    flipped = [bin(a ^ b).count("1") for a, b in itertools.pairwise(values)]
    assert 28 < sum(flipped) / len(flipped) < 36
    assert mixed(1, 0) != mixed(0, 1)


def test_parts_begin_to_train_at_their_epoch(tmp_path: Path) -> None:
    task, early = tiny_task(), "backbone.model.conv1"
    snapshots: list[dict[str, torch.Tensor]] = []

    class Snapshot(Callback):
        def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
            snapshots.append({name: value.clone() for name, value in module.network.state_dict().items()})

    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    fit(tmp_path, [Unfreezing({1: ["backbone.model.layer4"], 2: ["backbone"]}), Snapshot()], task, max_epochs=3)

    def moved(old: dict[str, torch.Tensor], new: dict[str, torch.Tensor], prefix: str) -> bool:
        return any(not torch.equal(old[name], new[name]) for name in old if name.startswith(prefix))

    assert moved(before, snapshots[0], "head")
    assert not moved(before, snapshots[0], "backbone")  # statistics of its norms included
    assert moved(snapshots[0], snapshots[1], "backbone.model.layer4")
    assert not moved(snapshots[0], snapshots[1], early)
    assert moved(snapshots[1], snapshots[2], early)


def test_an_unknown_part_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no part 'backbone.model.layer9'; did you mean 'backbone.model.layer"):
        fit(tmp_path, [Unfreezing({1: ["backbone.model.layer9"]})])
    with pytest.raises(UsageError, match="each 1 or more"):
        Unfreezing({0: ["head"]})


def test_the_configuration_is_written_once_and_never_over_another(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="metrics")
    config = {"seed": 1, "model": {"class_path": "x", "_instantiator": "y", "sizes": (1, 2)}}
    fit(tmp_path, [ConfigSaver(tmp_path, config)], logger=logger)
    fit(tmp_path, [ConfigSaver(tmp_path, config)])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {
        "seed": 1,
        "model": {"class_path": "x", "sizes": [1, 2]},
    }
    assert not (tmp_path / "config-2.yaml").exists()
    assert "_instantiator" not in Path(logger.log_dir, "hparams.yaml").read_text()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    fit(tmp_path, [ConfigSaver(tmp_path, {"seed": 2})])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 1
    assert yaml.safe_load((tmp_path / "config-2.yaml").read_text()) == {"seed": 2}


def test_lines_are_printed_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = default_callbacks(tiny_task(), run=tmp_path)
    assert any(isinstance(each, Lines) for each in callbacks)
    train(tmp_path, max_epochs=1)
    out = capsys.readouterr().out
    assert "epoch 1 of 1  batch 10/10" in out and "train/loss" in out and "val/top1" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("every", [0, 3, 100])
def test_each_epoch_ends_with_its_mean_loss(every: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses: list[float] = []

    class Collect(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *args: Any) -> None:
            losses.append(float(outputs["loss"]))

    watched = EarlyStopping("train/loss", patience=5)
    trainer = fit(
        tmp_path, [Collect(), Lines(), watched], max_epochs=2, log_every_n_steps=every, enable_progress_bar=True
    )
    shown = re.findall(r"batch 10/10.*train/loss (\S+)", capsys.readouterr().out)
    assert [float(value) for value in shown] == pytest.approx([np.mean(losses[:10]), np.mean(losses[10:])], abs=1e-3)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(np.mean(losses[10:]), abs=1e-5)


def test_a_short_epoch_is_logged_once(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="metrics")
    fit(tmp_path, [], logger=logger, max_epochs=3, log_every_n_steps=25)
    logger.save()
    with Path(logger.log_dir, "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == [10, 20, 25]


@pytest.mark.parametrize("name", ["val/top2", "train/accuracy", "lr"])
@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_monitor_that_is_not_logged_is_refused_before_training(kind: Any, name: str, tmp_path: Path) -> None:
    steps: list[int] = []
    watch = Watch(lambda trainer, module: steps.append(trainer.global_step))
    options = {"num_sanity_val_steps": 1, "enable_checkpointing": True}
    with pytest.raises(UsageError, match=rf"{kind.__name__}: monitor '{name}' is not logged; these are: .*val/top1"):
        fit(tmp_path, [watch, CheckMonitors(), kind(monitor=name)], **options)
    assert steps == []


def test_without_validation_only_the_training_loss_can_be_watched(tmp_path: Path) -> None:
    checkpointing = Checkpointing(tmp_path / "saved", "val/top1")
    options = {"limit_val_batches": 0, "enable_checkpointing": True}
    with pytest.raises(UsageError, match="monitor 'val/loss' is not logged"):
        fit(tmp_path, [CheckMonitors(), EarlyStopping("val/loss"), checkpointing], **options)
    fit(tmp_path, [CheckMonitors(), EarlyStopping("train/loss"), checkpointing], **options)
    assert checkpointing.best_model_path == "" and Path(checkpointing.last_model_path).is_file()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_of_equal_scores_the_lower_loss_or_else_the_later_is_best(mode: str) -> None:
    best, one = Best(mode), torch.tensor(1.0)
    assert best.is_beaten(one, 0.5)
    best.score, best.loss = one, 0.5
    assert best.is_beaten(one, 0.4) and best.is_beaten(one, 0.5), "lower, or later"
    assert not best.is_beaten(one, 0.6) and not best.is_beaten(one, math.inf)
    better = torch.tensor(2.0 if mode == "max" else 0.0)
    assert best.is_beaten(better, 9.0) and not best.is_beaten(torch.tensor(math.nan), 0.1)
    best.loss = math.inf
    assert best.is_beaten(one), "without a loss the later one"


def test_a_perfect_score_does_not_keep_the_first_checkpoint(tmp_path: Path) -> None:
    """The score is 1 at each validation; the checkpoint with the lowest loss stands, also after a resume."""
    losses = [0.9, 0.4, 0.6]

    class Losses(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
            module.log("val/score", 1.0)
            module._eval_log.flush = lambda reduce: {"loss": torch.tensor(losses[trainer.current_epoch])}

    for epochs in (2, 3):
        checkpointing = Checkpointing(tmp_path, "val/score")
        task = tiny_task()
        callbacks = [Losses(), checkpointing]
        options = {"max_epochs": epochs, "logger": False, "num_sanity_val_steps": 0, "enable_progress_bar": False}
        trainer = Trainer(accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
        data = NoiseData(input=task.input, classes=task.classes, batch_size=4, seed=1)
        trainer.fit(task, datamodule=data, ckpt_path=tmp_path / "last.ckpt" if epochs == 3 else None)
        assert Path(checkpointing.best_model_path).name == "best-step000020-score-1.0000.ckpt"
    assert [path.name for path in sorted(tmp_path.glob("best*"))] == ["best-step000020-score-1.0000.ckpt"]
