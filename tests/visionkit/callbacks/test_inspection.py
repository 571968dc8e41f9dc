"""Evidence and feature maps reach the loggers of a training, W&B's records among them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from tests.contracts.cases import build
from tests.real_data import ROOT
from tests.visionkit.callbacks.test_images import fit
from tests.visionkit.offline_run import folders, read_run, teardown
from visionkit.callbacks.inspection import InspectionLogger, last_maps
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.loggers import WandbTracker
from visionkit.predictor import Predictor
from visionkit.sharding.strategy import FSDP2Strategy
from visionkit.types import Sample


def test_wandb_gets_a_panel_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = WandbTracker(save_dir=str(tmp_path), offline=True)
    fit(tmp_path, tracker, InspectionLogger(count=3))
    tracker.finish()
    read = read_run(folders(tmp_path)[0])
    rows = [row for row in read.history if "inspection.filenames" in row]
    assert [row["trainer/global_step"] for row in rows] == [3, 6]
    assert rows[0]["inspection.count"] == 3 and rows[0]["inspection.width"] > 2.5 * rows[0]["inspection.height"]
    assert all(re.fullmatch("evidence for (dark|light)", each) for each in rows[0]["inspection.captions"])
    images = [read.folder / "files" / name for row in rows for name in row["inspection.filenames"]]
    assert all(np.asarray(Image.open(path)).std() > 5 for path in images)
    assert rows[0]["inspection table.ncols"] == 4


@pytest.fixture(autouse=True, scope="module")
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        yield
    teardown()


def test_one_line_of_yaml_is_what_it_takes() -> None:
    line = "trainer: {callbacks+: [{class_path: visionkit.callbacks.inspection.InspectionLogger}]}"
    assert line in (ROOT / "docs" / "tracking.md").read_text("utf-8")


def test_csv_gets_files_and_the_parts_that_are_asked_for(tmp_path: Path) -> None:
    def sizes(name: str, **options: Any) -> list[tuple[int, int]]:
        root = tmp_path / name
        fit(root, CSVLogger(str(root), name="metrics"), InspectionLogger(count=2, **options), max_epochs=1)
        return [Image.open(path).size for path in sorted((root / "inspection").glob("*/*.png"))]

    whole = sizes("whole", max_side=64)
    assert len(whole) == 2 and all(width > 2 * height for width, height in whole)
    assert [width for width, _ in sizes("cam", max_side=64, layer="none")] < [width for width, _ in whole]
    assert len(sizes("maps", cam="none", layer="conv1.0", maps=4)) == 2


def test_weights_and_mode_stay_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = fit(tmp_path / "a", False, InspectionLogger(count=1), max_epochs=1)
    torch.manual_seed(0)
    other = fit(tmp_path / "b", False, InspectionLogger(count=1, every_n_epochs=9, cam="none"), max_epochs=1)
    states = [each.lightning_module.state_dict() for each in (trainer, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(parameter.grad is None for parameter in trainer.lightning_module.parameters())


def test_the_last_maps_are_those_of_the_backbone() -> None:
    assert last_maps(build("detection")).startswith("backbone.")  # type: ignore[arg-type]


def test_a_detector_that_finds_nothing_has_maps_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = build("detection")
    task.limits = task.limits.given(1.0, None, None)  # which no score of an untrained detector reaches
    # As for detectors with two stages, the evidence is that for an object, since there is no score of each class.
    monkeypatch.setattr("visionkit.callbacks.inspection.can_explain", lambda task: False)
    callback = InspectionLogger()
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    with caplog.at_level(logging.WARNING):
        panel = callback._panel(Predictor(task.eval()), ImageSource(image), "noise")
    assert panel is not None and panel.drawn.shape[1] > 1.5 * panel.plain.shape[1]
    assert not panel.row and "no evidence is drawn" in caplog.text


def test_sharded_weights_are_not_run_by_one_process_alone(caplog: pytest.LogCaptureFixture) -> None:
    callback = InspectionLogger(count=1, cam="none")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    callback._chosen = [Sample.of(ImageSource(pixels), {"labels": 0}, "noise")]
    task: Any = build("classification").eval()
    trainer: Any = SimpleNamespace(is_global_zero=True, strategy=None)
    assert len(callback.draw(trainer, task)) == 1
    trainer.strategy = FSDP2Strategy()
    for first in (True, True, False):
        trainer.is_global_zero = first
        assert callback.draw(trainer, task) == []
    assert caplog.text.count("weights are sharded") == 1


@pytest.mark.parametrize("arguments", [{"cam": "gradcam"}, {"maps": 0}, {"cam": "none", "layer": "none"}, {"count": 0}])
def test_what_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="inspection"):
        InspectionLogger(**arguments)
