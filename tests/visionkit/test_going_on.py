"""What a resumed training states: where it goes on, or which limit left nothing to do and what to set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from ui.cli import main
from visionkit.checkpoint import describe
from visionkit.resume import Position, place_text

TOY = [
    *("--model", "ClassificationTask", "--model.backbone", "test_resnet", "--model.input.size", "[32,32]"),
    *("--data", "tests.toy_data.ToyData", "--data.batch_size", "7", "--trainer.accelerator", "cpu"),
    *("--report", "false", "--run", "r"),
]
LAST = "r/checkpoints/last.ckpt"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONKIT_ALLOW_IMPORTS", "tests")


def fit(options: str) -> int:
    return main(["fit", *TOY, *options.split()])


@pytest.mark.parametrize(
    ("position", "epochs", "text"),
    [
        (Position(0, 0), None, "before epoch 1"),
        (Position(2, 0), 10, "before epoch 3 of 10"),
        (Position(2, 5), 10, "after batch 5 of epoch 3 of 10"),
        (Position(2, 5, True), -1, "before the validation within epoch 3"),
        (Position(2, 9, True, True), 3, "before the validation at the end of epoch 3 of 3"),
    ],
)
def test_a_position_in_words_counts_from_one(position: Position, epochs: int | None, text: str) -> None:
    assert place_text(position, epochs) == text


@pytest.mark.parametrize("source", ["last", "best", LAST])
def test_a_resumed_training_states_where_it_goes_on(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--trainer.max_epochs 3 --trainer.max_steps 4 --trainer.limit_train_batches 3 --ckpt_path last") == 0
    begun = capsys.readouterr()
    assert "test_resnet starts from random weights" in begun.out and "goes on from" not in begun.out
    kept = next(iter(Path("r/checkpoints").glob("best-*.ckpt"))) if source == "best" else Path(LAST)
    facts = describe(kept)
    assert fit(f"--trainer.max_epochs 3 --ckpt_path {source}") == 0
    message = capsys.readouterr().out
    place = "after batch 1 of epoch 2 of 3" if facts["step"] == 4 else "before epoch 2 of 3"
    assert f"test_resnet goes on from step {facts['step']} ({place}) of {kept}\n" in message
    assert "starts from" not in message and message.count("goes on from") == 1
    assert re.search(r"^epoch 2 of 3 .* validation", message, re.MULTILINE), "the same epoch by the same number"


@pytest.mark.parametrize(
    ("begins", "again", "reason"),
    [
        (
            "--trainer.max_epochs 2",
            "",
            "trainer.max_epochs 2 is reached; to train on, give a larger --trainer.max_epochs",
        ),
        ("--trainer.max_steps 2", "", "trainer.max_steps 2 is reached; to train on, give a larger --trainer.max_steps"),
        (
            "--trainer.max_steps 2",
            "--trainer.max_time 00:00:00:00",
            "trainer.max_time is used up",
        ),
        (
            "--trainer.max_epochs 9 --early_stopping 1 --model.optim.lr 1e-12",
            "",
            "early_stopping 1 is reached; to train on, give a larger --early_stopping",
        ),
    ],
    ids=["epochs", "steps", "time", "early"],
)
def test_a_finished_run_states_what_limits_it_and_stays_as_it_is(
    begins: str, again: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(begins) == 0
    assert "finished" not in capsys.readouterr().err
    before = torch.load(LAST, weights_only=True)["state_dict"]
    step = describe(LAST)["step"]
    more = again if again else begins
    assert fit(f"{more} --trainer.max_epochs 9 --ckpt_path last" if again else f"{more} --ckpt_path last") == 0
    message = capsys.readouterr()
    lines = [line for line in message.err.splitlines() if "finished" in line]
    assert len(lines) == 1 and lines[0].startswith(f"{LAST}: this run is finished: {reason}"), message.err
    assert "goes on from" not in message.out and describe(LAST)["step"] == step
    after = torch.load(LAST, weights_only=True)["state_dict"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_time_that_chose_the_epochs_is_named_where_they_are_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--max_time 3s") == 0
    step = describe(LAST)["step"]
    capsys.readouterr()
    assert fit("--max_time 3s --ckpt_path last") == 0
    assert re.search(r"--max_time 3s (chose \d+ epochs?|is used up); to train on, give", capsys.readouterr().err)
    assert fit(f"--max_time null --trainer.max_epochs {step + 1} --ckpt_path last") == 0, "as the line states"
    assert describe(LAST)["step"] > step


def test_more_patience_trains_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Lightning's own callback takes the patience of the checkpoint, whatever is given."""
    options = "--trainer.max_epochs 9 --model.optim.lr 1e-12 --early_stopping"
    assert fit(f"{options} 1") == 0
    step = describe(LAST)["step"]
    assert fit(f"{options} 3 --ckpt_path last") == 0
    assert describe(LAST)["step"] == step + 2 * 3, "two epochs of three batches"
    assert "in 3 checks in a row" in capsys.readouterr().out
    assert fit(f"{options} 50 --ckpt_path last") == 0
    assert "in a row" not in capsys.readouterr().out, "it ended with its epochs, whatever ended it before"


def test_a_run_that_has_to_take_more_epochs_goes_on_though_its_patience_is_used_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = "--model.optim.lr 1e-12 --early_stopping 1"
    assert fit(f"{options} --trainer.min_epochs 4 --trainer.max_epochs 4") == 0
    step = describe(LAST)["step"]
    capsys.readouterr()
    assert fit(f"{options} --trainer.min_epochs 5 --trainer.max_epochs 9 --ckpt_path last") == 0
    message = capsys.readouterr()
    assert "goes on from step" in message.out and "finished" not in message.err
    assert describe(LAST)["step"] == step + 3, "one epoch of three batches"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--trainer.max_epochs 0", "trainer.max_epochs 0 is reached"),
        ("--trainer.max_steps 0", "trainer.max_steps 0 is reached"),
        ("--trainer.max_epochs 1 --trainer.limit_train_batches 0", "trainer.limit_train_batches"),
    ],
)
def test_a_training_of_no_step_states_why(options: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(options) == 0
    message = capsys.readouterr().err
    assert "there is nothing to train: " in message and named in message
