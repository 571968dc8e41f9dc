"""A training whose loss or weights are not finite any more is stopped, and no good checkpoint is replaced."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning import Callback, Trainer

from tests.tiny_training import tiny_task
from tests.visionkit.callbacks.test_callbacks import fit
from visionkit.callbacks import EMA, Checkpointing, Divergence
from visionkit.callbacks import divergence as divergence_module
from visionkit.callbacks.divergence import nonfinite
from visionkit.errors import Diverged
from visionkit.optim import OptimConfig


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


class SoftNan(Callback):
    """Keeps the gradients finite, so that a loss alone is not."""

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0)


@pytest.mark.parametrize("every", [0, 1, 3])
def test_non_finite_losses_in_a_row_end_the_training(every: int, tmp_path: Path) -> None:
    lightning.seed_everything(0, verbose=False)
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=every)
    said = r"3 times in a row, first at step 5 with the images train\d+, .*: lower optim.lr.*; "
    said += r".*last\.ckpt was saved before that" if every else "no checkpoint was saved before that"
    with pytest.raises(Diverged, match=said) as caught:
        fit(tmp_path, [Divergence(3), SoftNan(), checkpointing], nan_task({4, 5, 6}))
    assert caught.value.status == 6 and "\n" not in str(caught.value)
    if every:
        last = torch.load(tmp_path / "last.ckpt", weights_only=True)
        assert last["global_step"] == (4 if every == 1 else 3)  # what was saved before stands
        assert nonfinite(last["state_dict"].items()) == []


def test_single_bad_losses_end_nothing(tmp_path: Path) -> None:
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    fit(tmp_path, [Divergence(3), SoftNan(), checkpointing], nan_task({1, 2, 4, 5, 7}))
    assert Path(checkpointing.last_model_path).is_file()


def test_a_training_that_ends_with_a_bad_loss_has_not_succeeded(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="once, first at step 10"):
        fit(tmp_path, [Divergence(3), SoftNan(), Checkpointing(tmp_path, "val/top1")], nan_task({9}))


def test_weights_of_nan_end_the_training_without_a_patience(tmp_path: Path) -> None:
    """The loss is NaN once; its gradient has reached every weight, which no later step mends."""
    task = tiny_task(mixup=0.0, optim=None)
    original = task.losses
    task.losses = lambda outputs, target: {  # type: ignore[method-assign]
        name: value * (math.nan if task.training and task.trainer.global_step == 4 else 1)
        for name, value in original(outputs, target).items()
    }
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    with pytest.raises(
        Diverged, match=r"tensors, such as network\.\S+, are NaN or infinite after step 5; the loss was"
    ):
        fit(tmp_path, [Divergence(3), checkpointing], task)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_outputs_of_nan_are_not_met_by_the_metrics_first(tmp_path: Path) -> None:
    """A rate of 1e30 leaves finite weights and outputs that are not: validation after each step reports n/a."""
    task = tiny_task(mixup=0.0, optim=OptimConfig(lr=1e30, warmup=0))
    checkpointing = Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    callbacks = [EMA(0.9), Divergence(3), checkpointing]
    with pytest.raises(Diverged) as caught:
        fit(tmp_path, callbacks, task, val_check_interval=1)
    assert caught.value.status == 6
    assert task.trainer.global_step <= 4
    assert checkpointing.best_model_score is None or math.isfinite(checkpointing.best_model_score)


class Poison(Callback):
    """Before each save, takes one value of what a checkpoint holds away; after it, puts it back."""

    def __init__(self, seeds: int, folder: Path) -> None:
        self.seeds, self.folder, self.refused = seeds, folder, 0
        self.poisoned: list[str] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        saver = next(each for each in trainer.callbacks if isinstance(each, Checkpointing))  # type: ignore[attr-defined]
        average = next(each for each in trainer.callbacks if isinstance(each, EMA))  # type: ignore[attr-defined]
        saver.save(trainer)
        last = self.folder / "last.ckpt"
        for seed in range(self.seeds):
            rng = np.random.default_rng([seed, trainer.global_step])
            kinds = {
                "weight": [value.data for value in pl_module.parameters()],
                "statistic": [value for value in pl_module.buffers() if value.is_floating_point() and value.numel()],
                "average": list(average.average.values()),
                "optimizer": [state["exp_avg_sq"] for state in trainer.optimizers[0].state.values()],
            }
            kind = str(rng.choice(list(kinds)))
            tensor = kinds[kind][int(rng.integers(len(kinds[kind])))]
            place = np.unravel_index(int(rng.integers(tensor.numel())), tensor.shape)
            before, digest = tensor[place].clone(), hashlib.sha256(last.read_bytes()).hexdigest()
            tensor[place] = float(rng.choice([math.nan, math.inf, -math.inf]))
            saver._saved = None  # as after another step
            with pytest.raises(Diverged, match="1 tensors, such as"):
                saver.save(trainer)
            tensor[place] = before
            assert hashlib.sha256(last.read_bytes()).hexdigest() == digest, kind
            self.poisoned.append(kind)
        saver._saved = None
        saver.save(trainer)  # healthy again


def test_no_poisoned_value_replaces_a_good_checkpoint(tmp_path: Path) -> None:
    """Twenty seeds choose where: a weight, a statistic of batch norm, the average, the optimizer's state."""
    poison = Poison(10, tmp_path)
    checkpointing = Checkpointing(tmp_path, "val/top1")
    fit(tmp_path, [EMA(0.9), Divergence(3), poison, checkpointing], max_steps=2)
    assert len(poison.poisoned) == 20 and set(poison.poisoned) == {"weight", "statistic", "average", "optimizer"}
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2


class PoisonOnce(Callback):
    """After one step, drawn by a seed, one value of the training is not finite any more, and stays so."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.step, self.kind = int(self.rng.integers(2, 5)), KINDS[seed % len(KINDS)]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        if trainer.global_step != self.step:
            return
        average = next(each for each in trainer.callbacks if isinstance(each, EMA))  # type: ignore[attr-defined]
        tensors = {
            "weight": [value.data for value in pl_module.parameters()],
            "statistic": [value for value in pl_module.buffers() if value.is_floating_point() and value.numel()],
            "average": list(average.average.values()),
            "optimizer": [state["exp_avg_sq"] for state in trainer.optimizers[0].state.values()],
        }[self.kind]
        tensor = tensors[int(self.rng.integers(len(tensors)))]
        place = np.unravel_index(int(self.rng.integers(tensor.numel())), tensor.shape)
        tensor[place] = float(self.rng.choice([math.nan, math.inf, -math.inf]))


KINDS = ("weight", "statistic", "average", "optimizer")


def values(content: Any) -> Any:
    """All tensors of numbers in a checkpoint."""
    if isinstance(content, torch.Tensor):
        if content.is_floating_point():
            yield content
    elif isinstance(content, dict | list | tuple):
        for each in content.values() if isinstance(content, dict) else content:
            yield from values(each)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_poisoned_training_ends_and_keeps_its_good_checkpoint(seed: int, tmp_path: Path) -> None:
    """Each seed is a training of its own: what is poisoned, where, with what and after which step."""
    lightning.seed_everything(seed, verbose=False)
    poison, checkpointing = PoisonOnce(seed), Checkpointing(tmp_path, "val/top1", every_n_train_steps=1)
    with pytest.raises(Diverged) as caught:
        fit(tmp_path, [EMA(0.9), Divergence(3), poison, checkpointing], val_check_interval=1, max_epochs=4)
    assert caught.value.status == 6
    found = sorted(tmp_path.glob("*.ckpt"))
    assert tmp_path / "last.ckpt" in found
    for path in found:
        content = torch.load(path, weights_only=True)
        assert 1 <= content["global_step"] < poison.step, path
        assert all(bool(value.isfinite().all()) for value in values(content)), path


def test_a_buffer_that_is_infinite_on_purpose_is_left_alone(tmp_path: Path) -> None:
    task = tiny_task()
    task.network.register_buffer("mask", torch.full((3,), -math.inf))
    checkpointing = Checkpointing(tmp_path, "val/top1")
    fit(tmp_path, [EMA(0.9), Divergence(3), checkpointing], task)
    assert Path(checkpointing.last_model_path).is_file()


# ---------------------------------------------------------------------- devices and processes, driven by hand


class Late:
    """A loss on a device: it has arrived when somebody waits for it."""

    def __init__(self, loss: torch.Tensor) -> None:
        self.loss = float(loss)

    def arrived(self) -> bool:
        return False

    def value(self) -> float:
        return self.loss


class Ranks:
    """Agreement of two processes that take their steps in turns, rank 0 first."""

    def __init__(self) -> None:
        self.values: list[list[int]] = [[], []]

    def of(self, rank: int) -> Any:
        def last(value: int) -> int:
            self.values[rank].append(value)
            step = len(self.values[rank])
            return max(row[step - 2] for row in self.values) if step > 1 else 0

        def now(value: int) -> int:
            # What the other process will state of this step: here its count goes on as this one's does.
            self.values[rank].append(value)
            other = self.values[1 - rank]
            step = len(self.values[rank])
            return max(value, other[step - 1] if len(other) >= step else value)

        return SimpleNamespace(last=last, now=now, close=lambda: None)


def stepped(watches: list[Divergence], losses: list[list[float]], asked_every: int = 0) -> int:
    """Runs the watches side by side; the step at which one of them raises."""
    for step, row in enumerate(zip(*losses, strict=True), 1):
        trainer: Any = SimpleNamespace(global_step=step, checkpoint_callbacks=[])
        for watch, loss in zip(watches, row, strict=True):
            try:
                watch.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, {"id": [f"p{step}"]}, 0)  # type: ignore[arg-type]
            except Diverged:
                return step
            if asked_every and step % asked_every == 0:
                watch.healthy()
    return 0


def begun(patience: int, agreement: Any = None) -> Divergence:
    watch = Divergence(patience)
    watch.on_train_start(SimpleNamespace(world_size=1), None)  # type: ignore[arg-type]
    if agreement is not None:
        watch._agreement = agreement
    return watch


@pytest.mark.parametrize("asked_every", [0, 1, 2])
@pytest.mark.parametrize("device", ["cpu", "device"])
def test_the_third_bad_loss_in_a_row_is_the_last(
    device: str, asked_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a checkpoint asks in between: that once emptied what was counted."""
    if device == "device":
        monkeypatch.setattr(divergence_module, "_Reading", Late)
    losses = [1.0, math.inf, math.nan, 2.0, math.nan, math.inf, math.nan, 1.0, 1.0]
    assert stepped([begun(3)], [losses], asked_every) == 7
    assert stepped([begun(3)], [[1.0, math.nan, math.nan, 1.0, math.nan]], asked_every) == 0


def test_a_device_is_read_one_step_late_and_waited_for_once_it_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence_module, "_Reading", Late)
    watch = begun(2)
    trainer: Any = SimpleNamespace(global_step=1, checkpoint_callbacks=[])
    watch.on_train_batch_end(trainer, None, torch.tensor(math.nan), {}, 0)  # type: ignore[arg-type]
    assert len(watch._unread) == 1, "nothing waits for the step that runs"
    watch.on_train_batch_end(trainer, None, torch.tensor(1.0), {}, 1)  # type: ignore[arg-type]
    assert len(watch._unread) == 0 and not watch._alarm, "waited for, and a good loss ends the alarm"
    watch.on_train_batch_end(trainer, None, torch.tensor(1.0), {}, 2)  # type: ignore[arg-type]
    assert len(watch._unread) == 1 and watch.healthy()


@pytest.mark.parametrize("late", [False, True])
def test_two_processes_end_within_three_steps_of_the_first_bad_loss(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if late:
        monkeypatch.setattr(divergence_module, "_Reading", Late)
    ranks = Ranks()
    watches = [begun(3, ranks.of(rank)) for rank in range(2)]
    assert stepped(watches, [[1.0, math.nan, math.nan, math.nan, 1.0]] * 2) == 4
