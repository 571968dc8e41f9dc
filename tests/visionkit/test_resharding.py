"""An epoch that goes on with more or fewer processes, or another batch size, sees each sample that it had not seen."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning import Callback, Trainer
from torch.utils.data import BatchSampler

from datamodules.identity_sampler import IdentitySampler
from datamodules.set_sampler import SetSampler
from tests.real_data import ROOT
from tests.tiny_training import Killed, NoiseData, tiny_task, train
from visionkit.data import Split
from visionkit.interrupted_epoch import InterruptedEpoch, go_on, position_in, seen_in, state_at
from visionkit.resume import Position
from visionkit.sampling import Drawn, EpochSampler, RepeatFactorSampler, Stretch

EPOCH = 2
IDENTITY = np.repeat(np.arange(7), [4, 6, 3, 5, 8, 4, 6])
SETS = [11, 30]

SAMPLERS: dict[str, Callable[[int, int, int], EpochSampler]] = {
    "shuffled": lambda rank, world, size: EpochSampler(23, shuffle=True, seed=1, rank=rank, world=world),
    "repeated": lambda rank, world, size: RepeatFactorSampler(np.linspace(1, 2.5, 15), seed=1, rank=rank, world=world),
    "sets": lambda rank, world, size: SetSampler(SETS, size, 0.5, seed=1, rank=rank, world=world),
    "identities": lambda rank, world, size: IdentitySampler(IDENTITY, 2, 2, seed=1, rank=rank, world=world),
}


class Ranks:
    """The processes of a training as far as they deal out samples.

    Args:
        name: Key of `SAMPLERS`.
        world: Number of processes.
        size: Batch size.
        drop_last: Leave out what fills no batch.
    """

    def __init__(self, name: str, world: int, size: int, drop_last: bool) -> None:
        self.now = Stretch(world, size, 0)
        self.samplers = [SAMPLERS[name](rank, world, size) for rank in range(world)]
        for each in self.samplers:
            each.set_epoch(EPOCH)
            each.batch_size, each.drop_last = size, drop_last

    def resume(self, state: dict[str, Any], epoch_done: bool = False) -> InterruptedEpoch:
        seen = seen_in(state)
        position = Position(EPOCH, state["batches"], epoch_done, epoch_done)
        found = [go_on(each, position, seen, 1.0) for each in self.samplers]
        assert len(set(map(str, found))) == 1, "all ranks go on at the same place"
        for each in self.samplers:
            each.set_epoch(EPOCH)
            each.seen, each.over = seen, found[0].over
        return found[0]

    def batches(self) -> list[list[list[Any]]]:
        """Batches of each rank."""
        return [list(BatchSampler(each, self.now.batch_size, each.drop_last)) for each in self.samplers]

    def state(self, batches: int, interrupted: InterruptedEpoch | None = None) -> dict[str, Any]:
        return state_at(Position(EPOCH, batches), self.now, interrupted)


def flat(batches: list[list[list[Any]]], start: int = 0, end: int | None = None) -> list[Any]:
    return [item for rank in batches for batch in rank[start:end] for item in batch]


@pytest.mark.parametrize("drop_last", [True, False], ids=["drop", "pad"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_any_number_of_ranks_goes_on_with_what_others_left(name: str, drop_last: bool) -> None:
    size = 4 if name == "identities" else 3
    for before, after in itertools.product(range(1, 5), repeat=2):
        begun = Ranks(name, before, size, drop_last)
        whole = begun.batches()
        # Sets and identities have batches of their own make, which are never padded.
        padded = not drop_last and name in ("shuffled", "repeated")
        for done in range(len(whole[0]) + 1):
            new = Ranks(name, after, size, drop_last)
            place = new.resume(begun.state(done))
            rest = new.batches()
            items = items_of(begun if done else new)
            assert len({len(rank) for rank in rest}) == 1, "every rank takes the same number of steps"
            assert place.first + len(rest[0]) == new.samplers[0].batches() or name == "sets"
            seen = Counter([*flat(whole, 0, done), *flat(rest)])
            if padded:
                assert seen >= items and (seen - items).total() < max(before, after)
            else:
                left_out = after * size if name != "sets" else after * size * len(SETS)
                assert seen <= items and (items - seen).total() < left_out
            if before == after:
                assert flat(rest) == flat(whole, done), "nothing changes where nothing changed"
            if name == "sets":
                owners = [[{bool(index >= SETS[0]) for _, index, *_ in batch} for batch in rank] for rank in rest]
                assert all(each == owners[0] and len(each[0]) == 1 for each in owners if each)
            if name == "identities":
                people = [Counter(IDENTITY[[index for _, index, *_ in batch]]) for rank in rest for batch in rank]
                assert all(set(each.values()) <= {2, 4} for each in people)


def items_of(ranks: Ranks) -> Counter[Any]:
    """What an epoch holds as these processes begin it, before they leave anything out: sets repeat their images."""
    sampler = ranks.samplers[0]
    order = sampler.order(sampler._rng())
    repeats = sampler._times_before(order) if sampler.repeats else np.zeros_like(order)
    drawn = [Drawn(int(repeat)) for repeat in repeats]
    return Counter(
        (EPOCH, int(index)) if each == Drawn() else (EPOCH, int(index), each)
        for index, each in zip(order, drawn, strict=True)
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_may_be_interrupted_again_and_again(name: str) -> None:
    rng = np.random.default_rng(3)
    size = 4 if name == "identities" else 2
    for _ in range(60):
        seen: list[Any] = []
        items: Counter[Any] = Counter()
        state: dict[str, Any] | None = None
        for world in map(int, rng.integers(1, 4, 4)):
            ranks = Ranks(name, world, size, True)
            items = items or items_of(ranks)
            place = ranks.resume(state) if state is not None else None
            batches = ranks.batches()
            done = min(2, int(rng.integers(0, len(batches[0]) + 1)))
            seen += flat(batches, 0, done)
            state = ranks.state((place.first if place is not None else 0) + done, place)
        assert state is not None and len(seen) == state["samples"]
        rest = Ranks(name, 1, size, True)
        rest.resume(state)
        seen += flat(rest.batches())
        assert Counter(seen) <= items
        if name in ("shuffled", "repeated"):
            assert len(seen) > rest.samplers[0].length - size


@pytest.mark.parametrize("name", ["shuffled", "repeated", "sets"])
def test_another_batch_size_is_exact_where_the_sampler_states_it(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        seen: list[Any] = []
        items: Counter[Any] = Counter()
        place = state = None
        for number in range(4):
            ranks = Ranks(name, int(rng.integers(1, 4)), int(rng.integers(1, 5)), True)
            assert ranks.samplers[0].any_batch_size
            items = items if seen else items_of(ranks)
            place = ranks.resume(state) if state is not None else None
            batches = ranks.batches()
            done = len(batches[0]) if number == 3 else min(2, int(rng.integers(0, len(batches[0]) + 1)))
            seen += flat(batches, 0, done)
            state = ranks.state((place.first if place is not None else 0) + done, place)
        assert Counter(seen) <= items
        left_out = ranks.now.world * ranks.now.batch_size * (len(SETS) if name == "sets" else 1)
        assert (items - Counter(seen)).total() < left_out


def test_a_warning_states_that_another_batch_size_is_not_exact(caplog: pytest.LogCaptureFixture) -> None:
    class People(NoiseData):
        def sampler(self, split: Split, rank: int, world: int) -> EpochSampler:
            return IdentitySampler(IDENTITY, self.batch_size // 2, 2, seed=1, rank=rank, world=world)

    for size, warned in ((4, False), (6, True)):
        data = People(input=tiny_task().input, batch_size=size)
        data.trainer = SimpleNamespace(limit_train_batches=1.0)  # type: ignore[assignment]
        data.load_state_dict({"epoch": 0, "batches": 1, "batch_size": 4, "world": 1})
        data.go_on_from(Position(0, 1))
        assert ("repeats some images" in caplog.text) == warned


def test_sizes_of_batches_go_on_where_the_epoch_stands() -> None:
    def scales(world: int, state: dict[str, Any] | None) -> list[float]:
        ranks = Ranks("shuffled", world, 2, True)
        for each in ranks.samplers:
            each.scales = (0.5, 2.0)
        if state is not None:
            ranks.resume(state)
        found = [[item[2].scale for item in flat([rank])] for rank in ranks.batches()]
        assert all(each == found[0] for each in found)
        return found[0]

    begun = Ranks("shuffled", 2, 2, True)
    assert scales(1, begun.state(3)) == scales(1, None)[-10:]


def test_an_epoch_that_leaves_no_whole_batch_is_over_and_its_validation_is_due() -> None:
    begun = Ranks("shuffled", 1, 5, True)
    more = Ranks("shuffled", 4, 5, True)
    place = more.resume(begun.state(4))
    assert place.over and more.batches() == [[]] * 4
    assert position_in(place, Position(EPOCH, 4)) == Position(EPOCH, 1, validation_due=True, epoch_done=True)
    done = Ranks("shuffled", 1, 2, True).resume(begun.state(4), epoch_done=True)
    assert done.over and done.first == 11, "an epoch that was over is over, though its rest would fill a batch now"
    limited = go_on(more.samplers[0], Position(EPOCH, 3), [Stretch(1, 5, 3)], 1)
    assert limited.over and limited.first == 1


def test_the_state_of_older_checkpoints_is_read() -> None:
    assert seen_in({"epoch": 1, "batches": 2, "batch_size": 8, "world": 3}) == [Stretch(3, 8, 2)]
    assert seen_in({"epoch": 1, "batches": 0, "batch_size": 8, "world": 3}) == []


class Log(Callback):
    """Notes the images of each finished step, by epoch, and the validations."""

    def __init__(self) -> None:
        self.steps: dict[int, tuple[int, list[str]]] = {}
        self.validated: list[int] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps[trainer.global_step] = trainer.current_epoch, batch["id"]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.validated.append(trainer.current_epoch)

    def images(self, epoch: int) -> list[str]:
        return sorted(name for at, names in self.steps.values() if at == epoch for name in names)


@pytest.mark.parametrize("drop_last", [True, False], ids=["drop", "keep"])
def test_a_training_whose_batch_size_changes_sees_every_image_once(
    drop_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init = NoiseData.__init__
    monkeypatch.setattr(NoiseData, "__init__", lambda self, **kwargs: init(self, **kwargs, drop_last=drop_last))
    log = Log()
    options: dict[str, Any] = {"train_images": 22, "val_images": 2, "max_epochs": 3, "checkpoint_every": 1, "ema": 0.0}
    for number, (size, step) in enumerate([(4, 2), (6, 3), (3, 8), (5, 10)]):
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path, extra=[Killed(step), log], task=tiny_task(mixup=0.0), batch_size=size, **options)
        said = capsys.readouterr().err
        assert ("was begun by 1 process of batch size" in said) == (number > 0), said
    train(tmp_path, extra=[log], task=tiny_task(mixup=0.0), batch_size=2, **options)
    assert log.validated == [0, 1, 2] and list(log.steps) == list(range(1, len(log.steps) + 1))
    for epoch in range(3):
        images = log.images(epoch)
        assert len(images) == len(set(images)) and len(images) >= (22 - 4 if drop_last else 22), epoch


def test_a_training_goes_on_after_an_epoch_that_larger_batches_cannot_finish(tmp_path: Path) -> None:
    log = Log()
    options: dict[str, Any] = {"train_images": 13, "val_images": 2, "max_epochs": 2, "checkpoint_every": 1, "ema": 0.0}
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, extra=[Killed(3), log], task=tiny_task(mixup=0.0), batch_size=3, **options)
    assert not log.validated
    train(tmp_path, extra=[log], task=tiny_task(mixup=0.0), batch_size=5, **options)
    assert log.validated == [0, 1] and len(log.images(0)) == 9 and len(log.images(1)) == 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_killed_at_ten_random_moments_leave_no_image_out_and_repeat_none() -> None:
    command = [sys.executable, "-m", "tests.elastic_kills", "--count", "10", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_data_without_a_checkpoint_begins_at_the_first_sample() -> None:
    task = tiny_task()
    data = NoiseData(input=task.input, batch_size=4)
    assert data.go_on_from(Position(0, 0)) == Position(0, 0)
