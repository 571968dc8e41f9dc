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


@pytest.mark.parametrize("hook", ["setup", "train_dataloader"])
def test_nothing_is_written_before_the_data_was_opened(hook: str, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("photos: no such folder")

    monkeypatch.setattr(NoiseData, hook, refuse)
    with pytest.raises(DataError):
        fit(tmp_path, [ConfigSaver(tmp_path, {"seed": 1})], tiny_task())
    assert not (tmp_path / "config.yaml").exists()
