"""When a run's configuration is written, and what it replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.tiny_training import NoiseData, tiny_task
from tests.visionkit.callbacks.test_callbacks import fit
from visionkit.callbacks import ConfigSaver
from visionkit.errors import DataError


def test_what_a_failed_try_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "config-2.yaml").write_text("seed: 2\n")
    fit(tmp_path, [ConfigSaver(tmp_path, {"seed": 3})])
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"seed": 3}
    assert not (tmp_path / "config-2.yaml").exists()


def test_a_resumed_run_states_which_data_are_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def data(**options: object) -> dict[str, object]:
        return {"data": {"class_path": "SceneData", "init_args": {"count": 640, "batch_size": 8, **options}}}

    (tmp_path / "checkpoints").mkdir()
    fit(tmp_path, [ConfigSaver(tmp_path, data())])
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    for options in ({}, {"batch_size": 4, "num_workers": 2, "cache_mb": 9, "pin_memory": True}):
        fit(tmp_path, [ConfigSaver(tmp_path, data(**options))])
        assert "resumed with other data" not in capsys.readouterr().err
    fit(tmp_path, [ConfigSaver(tmp_path, data(count=64, eval_count=5))])
    message = capsys.readouterr().err
    assert "data.count 64 (640 before), data.eval_count 5 (left out before); its steps" in message


@pytest.mark.parametrize("hook", ["setup", "train_dataloader"])
def test_nothing_is_written_before_the_data_was_opened(hook: str, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("photos: no such folder")

    monkeypatch.setattr(NoiseData, hook, refuse)
    with pytest.raises(DataError):
        fit(tmp_path, [ConfigSaver(tmp_path, {"seed": 1})], tiny_task())
    assert not (tmp_path / "config.yaml").exists()
