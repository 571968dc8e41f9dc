"""What the terminal states about a training's length."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import RichProgressBar

from tests.tiny_training import tiny_task
from tests.toy_data import ToyData
from tests.visionkit.callbacks.test_callbacks import fit
from visionkit.callbacks import Bar, Lines
from visionkit.callbacks.hints import Hints
from visionkit.geometry import InputSpec

OUT = "images out (--data.drop_last false takes them)"


def test_epochs_of_few_steps_are_reported_with_a_batch_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(tmp_path, [Hints()])
    message = capsys.readouterr().err
    steps = int(trainer.num_training_batches)
    if steps < 10:
        assert f"an epoch has only {steps} step" in message and "--data.batch_size" in message
    fit(tmp_path, [Hints()], limit_train_batches=2)
    assert "an epoch has only" not in capsys.readouterr().err, "who cuts it knows it"


@pytest.mark.parametrize(
    ("options", "place"),
    [({"max_epochs": 1}, "epoch 1 of 1  "), ({"max_epochs": -1, "max_steps": 2}, "epoch 1  step 2/2  ")],
)
def test_progress_names_what_the_training_is_limited_to(options, place, tmp_path, capsys) -> None:
    fit(tmp_path, [Lines(0.0)], tiny_task(), enable_progress_bar=True, **options)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(place) for line in lines), lines
    assert not any("-1" in line or "None" in line for line in lines)
    assert all(len(line) <= 80 for line in lines if "validation" in line)


@pytest.mark.parametrize(("epochs", "text"), [(10, "Epoch 3 of 10"), (-1, "Epoch 3"), (None, "Epoch 3")])
def test_the_bar_counts_epochs_from_one_as_lines_do(epochs: int | None, text: str) -> None:
    """Lightning makes the text of its bar by this method, which counts from 0."""
    assert hasattr(RichProgressBar, "_get_train_description")
    bar = Bar()
    bar._trainer = SimpleNamespace(max_epochs=epochs)
    assert bar._get_train_description(2).strip() == text


@pytest.mark.parametrize(
    ("images", "size", "ranks", "said"),
    [
        (45, 32, 1, f"only 1 step of 32 images and leaves 13 of 45 {OUT}; --data.batch_size 4 gives 11"),
        (40, 8, 1, "only 5 steps of 8 images; --data.batch_size 4 gives 10"),
        (10, 32, 1, "only 1 step of 10 images; --data.batch_size 2 gives 5"),
        (5, 2, 1, f"only 2 steps of 2 images and leaves 1 of 5 {OUT}"),
        (33, 4, 2, f"only 8 steps of 8 images and leaves 2 of 66 {OUT}; --data.batch_size 3 gives 11"),  # of a process
    ],
)
def test_the_hint_counts_images_and_those_left_out(images: int, size: int, ranks: int, said: str, capsys) -> None:
    data = ToyData(images, batch_size=size, input=InputSpec((32, 32)))
    loader = data.loader("train")
    trainer = SimpleNamespace(
        num_training_batches=len(loader), train_dataloader=loader, limit_train_batches=1.0, overfit_batches=0
    )
    rank = {"is_global_zero": True, "world_size": ranks}
    Hints().on_train_start(SimpleNamespace(**vars(trainer), **rank, fast_dev_run=False), None)
    assert capsys.readouterr().err.strip() == f"an epoch has {said}"
