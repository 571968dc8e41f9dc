"""Where training stands, from every hook of small trainings, and that it goes on from each of these places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from visionkit.resume import Position, epoch_ends, position_of, settle

HOOKS = (
    "train_epoch_start", "train_batch_end", "validation_start", "validation_batch_end", "validation_end",
    "train_epoch_end",
)  # fmt: skip
Seen = list[tuple[str, Position]]


class Notes(Callback):
    """Notes the position in every hook, and writes a checkpoint in each where there is a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.seen: Seen = []
        self.ends: list[bool] = []
        self.folder = folder

    def note(self, hook: str, trainer: Trainer) -> None:
        self.seen.append((hook, position_of(trainer)))
        if hook == "train_batch_end":
            self.ends.append(epoch_ends(trainer, trainer.fit_loop.epoch_loop.batch_idx))
        if self.folder is not None:
            trainer.save_checkpoint(self.folder / f"{len(self.seen)}.ckpt")

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        settle(checkpoint["loops"]["fit_loop"], self.seen[-1][1])


for _hook in HOOKS:
    setattr(Notes, f"on_{_hook}", lambda self, trainer, *_, hook=_hook, **__: self.note(hook, trainer))


def run(notes: Notes, checkpoint: Path | None = None, **options: Any) -> Seen:
    usual: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(callbacks=[notes], num_sanity_val_steps=0, **{**usual, **quiet, **options})
    trainer.fit(BoringModel(), ckpt_path=checkpoint)
    return notes.seen


def test_every_hook_states_where_training_stands() -> None:
    due, whole = Position(0, 4, True, True), [Position(0, 1), Position(0, 2, True), Position(0, 3)]
    assert run(Notes(), max_epochs=1, limit_train_batches=4, limit_val_batches=2, val_check_interval=2) == [
        ("train_epoch_start", Position(0, 0)),
        ("train_batch_end", whole[0]),
        ("train_batch_end", whole[1]),
        ("validation_start", whole[1]),
        ("validation_batch_end", whole[1]),
        ("validation_batch_end", whole[1]),
        ("validation_end", Position(0, 2)),
        ("train_batch_end", whole[2]),
        ("train_batch_end", due),
        ("validation_start", due),
        ("validation_batch_end", due),
        ("validation_batch_end", due),
        ("validation_end", Position(1, 0)),
        ("train_epoch_end", Position(1, 0)),
    ]


def _next(whole: Seen, position: Position) -> Seen:
    """What a training does that goes on from a position: an epoch or a validation begins again, a batch does not."""
    if position.batches and not position.validation_due:
        return whole[max(k for k, (_, each) in enumerate(whole) if each == position) + 1 :]
    begin = ("validation_start" if position.validation_due else "train_epoch_start", position)
    return whole[whole.index(begin) :] if begin in whole else []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 2, "limit_train_batches": 3, "max_epochs": 1},
        {"limit_val_batches": 0},
        {"check_val_every_n_epoch": 2},
        {"max_epochs": -1, "max_steps": 3, "limit_val_batches": 0},
    ],
    ids=["plain", "validation within", "no validation", "every second epoch", "by steps"],
)
def test_training_goes_on_from_each_hook(options: dict[str, Any], tmp_path: Path) -> None:
    whole = run(Notes(tmp_path), **options)
    for number, (hook, position) in enumerate(whole, 1):
        if position.epoch < 1 or number == len(whole):  # another epoch is like the first
            assert run(Notes(), tmp_path / f"{number}.ckpt", **options) == _next(whole, position), (hook, position)


def test_the_last_batch_of_an_epoch_or_of_the_training_ends_it() -> None:
    notes = Notes()
    run(notes, limit_train_batches=3, max_steps=5, max_epochs=-1)
    assert notes.ends == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("position", "epochs", "batches", "validation"),
    [
        (Position(2, 0), (2, 2, 2, 2), 0, 0),
        (Position(2, 5), (3, 3, 2, 2), 5, 0),
        (Position(2, 5, True, True), (3, 3, 2, 2), 5, 1),
        (Position(0, 0), (0, 0, 0, 0), 0, 0),
    ],
)
def test_the_counters_state_one_of_three_places(
    position: Position, epochs: tuple[int, ...], batches: int, validation: int
) -> None:
    """Before an epoch, within one, and before a validation that is due; the loader's state is the data module's."""
    names = ("ready", "started", "processed", "completed")

    def counter(value: int, *begun: int) -> dict[str, int]:
        return dict(zip(names, begun or (value,) * 4, strict=True))

    def progress() -> dict[str, Any]:
        return {"total": counter(0, 9, 8, 7, 6), "current": counter(0, 4, 3, 2, 1), "is_last_batch": True}

    state: dict[str, Any] = {
        "state_dict": {"combined_loader": [{}]},
        "epoch_progress": {"total": counter(4), "current": counter(4)},
        "epoch_loop.batch_progress": progress(),
        "epoch_loop.val_loop.batch_progress": progress(),
    }
    settle(state, position)
    settle(state, position)  # a second time changes nothing but the validations that were begun
    assert state["state_dict"] == {}
    assert state["epoch_progress"] == dict.fromkeys(("total", "current"), counter(0, *epochs))
    trained, validated = state["epoch_loop.batch_progress"], state["epoch_loop.val_loop.batch_progress"]
    assert trained == {"total": counter(7), "current": counter(batches), "is_last_batch": position.epoch_done}
    begun = counter(0, validation, validation, 0, 0)
    assert validated == {
        "total": counter(0, 6 + validation, 6 + validation, 6, 6), "current": begun, "is_last_batch": False,
    }  # fmt: skip
