from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from tests.tiny_training import NoiseData, tiny_task, train
from visionkit.callbacks import (
    EMA,
    Checkpointing,
    ConfigSaver,
    Divergence,
    Lines,
    Seeding,
    Unfreezing,
    default_callbacks,
)
from visionkit.callbacks.seeding import mixed
from visionkit.checkpoint import describe, load_task
from visionkit.errors import Diverged, UsageError


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
    scores = iter([0.5, 0.25, 0.75, math.nan, 0.75])

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


# ---------------------------------------------------------------------- divergence


def nan_task(steps: set[int]) -> Any:
    task = tiny_task(mixup=0.0)
    original = task.losses

    def losses(outputs: Any, target: Any) -> dict[str, torch.Tensor]:
        terms = original(outputs, target)
        if task.training and task.trainer.global_step in steps:
            terms = {name: value.detach() * math.nan for name, value in terms.items()}
            terms = {name: value + outputs.logits.sum() * 0 for name, value in terms.items()}
        return terms

    task.losses = losses  # type: ignore[method-assign]
    return task


def test_non_finite_losses_in_a_row_end_the_training(tmp_path: Path) -> None:
    lightning.seed_everything(0, verbose=False)
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    with pytest.raises(
        Diverged, match=r"3 times in a row, first at step 5 with the pictures train\d+, train\d+"
    ) as caught:
        fit(tmp_path, [Divergence(3), checkpointing], nan_task({4, 5, 6}))
    assert caught.value.status == 6 and "\n" not in str(caught.value)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4  # what was saved before stands
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


def test_losses_on_a_device_are_read_in_bulk() -> None:
    """The device's road, driven by hand: nothing is read before the ring is full, then the first bad step is known."""
    watch = Divergence(patience=2)
    trainer: Any = SimpleNamespace(world_size=1, log_every_n_steps=4, global_step=0)
    watch.on_train_start(trainer, None)  # type: ignore[arg-type]
    watch._losses = torch.zeros(4)
    losses = [1.0, math.inf, 2.0, math.nan, math.nan, 1.0, 1.0, 1.0]
    with pytest.raises(Diverged, match="2 times in a row, first at step 3 with the pictures p3"):
        for step, loss in enumerate(losses):
            watch._losses[len(watch._seen)] = torch.tensor(loss)
            watch._seen.append((step, (f"p{step}",)))
            if len(watch._seen) == 4 and watch._worst(trainer) >= 2:
                watch._stop()


def test_a_single_bad_loss_is_forgotten() -> None:
    watch = Divergence(patience=2)
    for loss in (math.nan, 1.0, math.inf, 1.0):
        watch._count(loss, 0, ())
    assert watch._bad == []


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


def test_parts_begin_to_learn_at_their_epoch(tmp_path: Path) -> None:
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
    with pytest.raises(UsageError, match="1 or later"):
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
    assert "epoch 1/1  batch 10/10" in out and "train/loss" in out and "val/top1" in out
    assert "\x1b" not in out
