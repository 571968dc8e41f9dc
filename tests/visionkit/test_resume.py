from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from tests.kill_resume import finish, trial
from tests.real_data import ROOT
from tests.tiny_training import NoiseData, end_state, tiny_task, train
from visionkit.resume import Position, position_of, settle
from visionkit.sampling import EpochSampler, Stretch


class Died(Exception):
    pass


class Dies(Callback):
    """Raises once at each of the given moments, as a sudden death would; what was saved before is all that is left."""

    def __init__(self, moments: list[tuple[str, int]]) -> None:
        self.moments = list(moments)

    def _maybe(self, kind: str, trainer: Trainer) -> None:
        if self.moments and self.moments[0][0] == kind and trainer.global_step >= self.moments[0][1]:
            self.moments.pop(0)
            raise Died

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._maybe("batch", trainer)

    def on_before_optimizer_step(self, trainer: Trainer, *args: Any) -> None:
        self._maybe("step", trainer)

    def on_validation_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._maybe("validation", trainer)

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        self._maybe("validated", trainer)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        self._maybe("epoch", trainer)


# Two epochs of six batches. What dies at a moment is resumed from whatever was saved before, and dies at the next one.
CASES: dict[str, tuple[dict[str, Any], list[tuple[str, int]]]] = {
    "every moment": (
        {"checkpoint_every": 1},
        [("batch", 1), ("validation", 6), ("epoch", 6), ("step", 8), ("validation", 12), ("validated", 12)],
    ),
    "sparse checkpoints": ({"checkpoint_every": 4}, [("batch", 3), ("step", 9), ("validation", 12)]),
    "epochs only": ({"checkpoint_every": 0}, [("batch", 4), ("batch", 9)]),
    "accumulation": (
        {"checkpoint_every": 1, "accumulate_grad_batches": 4},
        [("batch", 1), ("validation", 2), ("step", 3)],
    ),
    "validation within epochs": (
        {"checkpoint_every": 1, "val_check_interval": 2},
        [("validation", 2), ("validated", 4), ("batch", 5), ("epoch", 6), ("validation", 8)],
    ),
    "no validation": ({"checkpoint_every": 1, "limit_val_batches": 0}, [("batch", 3), ("epoch", 6), ("step", 9)]),
    "by steps": (
        {"checkpoint_every": 1, "max_epochs": -1, "max_steps": 10},
        [("batch", 2), ("validation", 6), ("epoch", 6), ("batch", 8)],
    ),
    "part of the epoch": ({"checkpoint_every": 1, "limit_train_batches": 4}, [("batch", 2), ("epoch", 4), ("step", 6)]),
    "no averaging": ({"checkpoint_every": 1, "ema": 0.0}, [("batch", 3), ("validation", 12)]),
}


QUICK = ("every moment", "epochs only", "accumulation", "validation within epochs")
"""The other cases leave a part of these out, or stop them elsewhere; `make slow` runs them."""


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_training_that_died_often_ends_as_one_that_did_not(case: str, tmp_path: Path) -> None:
    own, moments = CASES[case]
    # One with the report, whose drawing takes as long as the training.
    options: dict[str, Any] = {"max_epochs": 2, "train_images": 24, "report": case == "every moment", **own}
    train(tmp_path / "whole", **options)
    dies = Dies(moments)
    for _ in moments:
        with pytest.raises(Died):
            train(tmp_path / "died", extra=[dies], **options)
    train(tmp_path / "died", extra=[dies], **options)
    assert not dies.moments
    assert end_state(tmp_path / "died") == end_state(tmp_path / "whole")


def test_workers_change_nothing(tmp_path: Path) -> None:
    train(tmp_path / "alone", num_workers=0, max_epochs=2)
    with pytest.raises(Died):
        train(tmp_path / "helped", num_workers=2, max_epochs=2, extra=[Dies([("batch", 13)])])
    train(tmp_path / "helped", num_workers=2, max_epochs=2)
    assert end_state(tmp_path / "helped") == end_state(tmp_path / "alone")


def test_another_seed_ends_elsewhere(tmp_path: Path) -> None:
    """The comparison can fail: dropout, mixup and order follow the seed."""
    import tests.tiny_training as tiny

    train(tmp_path / "a", max_epochs=1)
    original = NoiseData.__init__

    def other(self: NoiseData, **kwargs: Any) -> None:
        original(self, **{**kwargs, "seed": 6})

    tiny.NoiseData.__init__ = other  # type: ignore[method-assign]
    try:
        train(tmp_path / "b", max_epochs=1)
    finally:
        tiny.NoiseData.__init__ = original  # type: ignore[method-assign]
    assert end_state(tmp_path / "a")["weights"] != end_state(tmp_path / "b")["weights"]


def test_a_finished_run_ends_at_once_with_the_averaged_weights(tmp_path: Path) -> None:
    first = train(tmp_path, max_epochs=1)
    again = train(tmp_path, max_epochs=1)
    assert again.global_step == first.global_step
    for name, value in first.lightning_module.state_dict().items():
        assert torch.equal(value, again.lightning_module.state_dict()[name]), name


def test_the_best_score_survives_another_folder(tmp_path: Path) -> None:
    first = train(tmp_path / "here", max_epochs=1)
    best = first.checkpoint_callback.best_model_score  # type: ignore[union-attr]
    (tmp_path / "here").rename(tmp_path / "there")
    again = train(tmp_path / "there", max_epochs=1)
    callback: Any = again.checkpoint_callback
    assert torch.equal(callback.best_model_score, best)
    assert Path(callback.best_model_path).parent == tmp_path / "there" / "checkpoints"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, Any]:
    """The seconds of a training that nobody kills, and its end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return finish(folder, num_workers=0, slowly=0.02), end_state(folder)


@pytest.mark.parametrize("number", [1, 2], ids=["2 workers, temp on the same disk", "temp on another disk"])
def test_kill_9(number: int, uninterrupted: tuple[float, Any], tmp_path: Path) -> None:
    seconds, end = uninterrupted
    assert trial(number, tmp_path, seconds, random.Random(number), end) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kill_9_at_twenty_random_moments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kill_resume", "--count", "20", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# ---------------------------------------------------------------------- the sampler and the loader


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_a_loader_goes_on_after_the_finished_batches(num_workers: int, rank: int, world: int) -> None:
    def ids(resume: dict[str, int] | None) -> list[list[str]]:
        task = tiny_task()
        data = NoiseData(train=23, input=task.input, batch_size=3, num_workers=num_workers, seed=9)
        if resume:
            data.load_state_dict(resume)
        loader = data.train_dataloader()
        loader.sampler.rank, loader.sampler.world = rank, world  # type: ignore[attr-defined]
        if not resume:
            loader.sampler.set_epoch(4)  # type: ignore[attr-defined]
        return [batch["id"] for batch in loader]

    whole = ids(None)
    assert ids({"epoch": 4, "batches": 2, "batch_size": 3, "world": world}) == whole[2:]


def test_a_skip_belongs_to_its_epoch() -> None:
    sampler = EpochSampler(10, shuffle=True, seed=1)
    sampler.seen = [Stretch(1, 5, 2)]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 10


def test_lightning_does_not_wrap_the_sampler() -> None:
    from torch.utils.data import DistributedSampler

    assert isinstance(EpochSampler(3, shuffle=False), DistributedSampler)
    assert [list(EpochSampler(5, shuffle=False, rank=rank, world=2)) for rank in (0, 1)] == [
        [(0, 0), (0, 2), (0, 4)],
        [(0, 1), (0, 3)],
    ]


def test_positions_before_any_batch(tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    assert position_of(trainer) == Position(0, 0)


def test_settling_a_due_validation_asks_lightning_to_run_it(tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    state = trainer.fit_loop.state_dict()
    settle(state, Position(2, 5, validation_due=True, epoch_done=True))
    assert state["epoch_progress"]["current"] == {"ready": 3, "started": 3, "processed": 2, "completed": 2}
    assert state["epoch_loop.batch_progress"]["current"] == dict.fromkeys(
        ("ready", "started", "processed", "completed"), 5
    )
    assert state["epoch_loop.val_loop.batch_progress"]["total"]["started"] == 1
    assert state["epoch_loop.val_loop.batch_progress"]["total"]["processed"] == 0
