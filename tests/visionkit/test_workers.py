"""Loading processes where the temporary folder has a long name."""

from __future__ import annotations

import multiprocessing.process
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toy_data import ToyData
from visionkit.errors import EnvironmentFault
from visionkit.geometry import InputSpec
from visionkit.workers import shorten_sockets


@pytest.fixture
def config() -> Iterator[dict]:
    """The configuration of this process, in which no temporary folder was made yet."""
    config = multiprocessing.process.current_process()._config
    kept = config.pop("tempdir", None)
    yield config
    config.pop("tempdir", None)  # multiprocessing removes the folder when the process ends
    if kept is not None:
        config["tempdir"] = kept


@pytest.mark.timeout(60)
def test_a_long_temporary_folder_does_not_hang_loading(tmp_path: Path, config: dict, monkeypatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    data = ToyData(count=4, input=InputSpec((16, 16)), classes=("dark", "light"), batch_size=2, num_workers=1)
    assert len(list(data.train_dataloader())) == 2
    made = Path(config["tempdir"])
    assert made.is_dir() and len(str(made)) < 75 and not list(long.iterdir())
    assert tempfile.gettempdir() == str(long), "other temporary files stay where they were asked for"


def test_no_short_folder_is_refused_before_training(tmp_path: Path, config: dict, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", f"/{'y' * 76}")
    with pytest.raises(EnvironmentFault, match=r"TMPDIR /y+: 77 bytes.*allow 75; set a shorter TMPDIR, or --data"):
        shorten_sockets(folders=[str(tmp_path / "absent")])
    monkeypatch.setattr(tempfile, "tempdir", f"/{'y' * 74}")
    shorten_sockets(folders=[])
    assert "tempdir" not in config, "a short one is left as it is"
