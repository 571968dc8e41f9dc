"""The largest batch that fits: found before the first step, kept in the run, and without a trace in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny_training import NoiseData, end_state, tiny_task, train
from visionkit import fit
from visionkit.callbacks import AutoBatchSize, batch_size
from visionkit.checkpoint import read_checkpoint
from visionkit.errors import EnvironmentFault
from visionkit.training import Run

SAID = "--auto_batch_size: batch size"


def largest(folder: Path, monkeypatch: pytest.MonkeyPatch, fits: int, **options: Any) -> Run:
    """Trains on a device that is out of memory at batches of more than `fits` images."""
    task = tiny_task(mixup=0.0)
    losses = task.losses

    def limited(outputs: Any, target: Any) -> Any:
        if task.training and len(target["labels"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(outputs, target)

    monkeypatch.setattr(task, "losses", limited)
    data = NoiseData(input=task.input, classes=task.classes, batch_size=16, train=50)
    shared: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "report": False, "max_epochs": 1}
    return fit(task, data, run=folder, auto_batch_size=True, **{**shared, **options})


def test_the_size_is_halved_where_it_does_not_fit_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = largest(tmp_path, monkeypatch, fits=9)
    message = capsys.readouterr().err
    assert f"{SAID} 8 fits (data.batch_size, was 16); 16 does not; the learning rate is unchanged" in message
    assert run.last is not None
    stored = read_checkpoint(run.last)
    assert stored["global_step"] == 6 and stored["NoiseData"]["batch_size"] == 8
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["data"]["init_args"]["batch_size"] == 8 and config["auto_batch_size"] is False
    # A resume goes on with the size, and the schedule was made for it.
    again = largest(tmp_path, monkeypatch, fits=9, ckpt_path="last", max_epochs=2)
    assert SAID not in capsys.readouterr().err and again.last is not None
    assert read_checkpoint(again.last)["global_step"] == 12
    assert [path.name for path in tmp_path.glob("config-*.yaml")] == ["config-2.yaml"], "for max_epochs alone"


def test_nothing_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="not even 2 images fit into memory"):
        largest(tmp_path, monkeypatch, fits=1)


def test_a_processor_tries_nothing_that_needs_more_than_a_quarter_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = itertools.count(1000, 1000)
    monkeypatch.setattr(batch_size, "_resident", lambda: next(held))  # grows for ever
    monkeypatch.setattr(batch_size, "free_memory", lambda: 4 * 1500.0)
    tried: list[int] = []
    fits = batch_size._Memory.fits

    def watched(self: Any, data: Any, size: int) -> bool:
        tried.append(size)
        return fits(self, data, size)

    monkeypatch.setattr(batch_size._Memory, "fits", watched)
    largest(tmp_path / "little", monkeypatch, fits=99, max_steps=1)
    assert tried == [2]
    assert f"{SAID} 2 fits (data.batch_size, was 16); 4 might need more than a quarter" in capsys.readouterr().err
    monkeypatch.setattr(batch_size, "free_memory", lambda: 0.0)  # not Linux
    largest(tmp_path / "unknown", monkeypatch, fits=99, max_steps=1)
    assert tried == [2] and f"{SAID} 16 fits (data.batch_size, as given)" in capsys.readouterr().err


def test_the_search_leaves_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "plain", max_epochs=1)
    train(tmp_path / "searched", max_epochs=1, extra=[AutoBatchSize()])
    assert "8 would leave an epoch of 40 images fewer than 10 steps" in capsys.readouterr().err
    assert end_state(tmp_path / "searched") == end_state(tmp_path / "plain")
    assert 0 < batch_size.free_memory() < 1e14 and batch_size._resident() > 1e7
