"""The shipped configurations of trackers and sweeps are accepted and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real_data import ROOT
from tests.visionkit.callbacks.test_images import class_folders
from tests.visionkit.offline_run import folders, read_run, teardown
from ui.cli import main


def sweep_arguments(path: Path, values: dict[str, Any]) -> list[str]:
    """The command line that W&B's agent makes of a sweep file, by the agent's own code."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    config = yaml.safe_load(path.read_text())
    assert set(values) == set(config["parameters"])
    sampled = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    out: list[str] = []
    for word in create_sweep_command(config["command"]):
        out += sampled[word[2:-1]] if word.startswith("${") else [word]
    return out


def first_values(path: Path) -> dict[str, Any]:
    parameters = yaml.safe_load(path.read_text())["parameters"]
    return {name: each.get("values", [each.get("value", each.get("max"))])[0] for name, each in parameters.items()}


SWEEPS = sorted((ROOT / "configs" / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_command_of_a_sweep_runs(path, tmp_path, monkeypatch):

    class_folders(tmp_path / "photos")
    monkeypatch.setenv("WANDB_RUN_ID", "sweep0run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    program, *arguments = sweep_arguments(path, {**first_values(path), "model.backbone": "test_resnet"})
    assert program == "visionkit"
    tiny = (
        "--trainer.max_epochs=1 --model.input.size=[32,32] --data.batch_size=4 --trainer.accelerator=cpu --run=runs/a"
    )
    assert main([*arguments, *tiny.split()]) == 0
    teardown()  # as the end of the process does
    (folder,) = folders(tmp_path / "runs" / "a")
    read = read_run(folder)
    assert read.id == "sweep0run", "the agent's run, not another one"
    metric = yaml.safe_load(path.read_text())["metric"]["name"]
    assert any(metric in row for row in read.history), "what the sweep optimises is logged"
    assert read.config["model"]["backbone"] == "test_resnet"


def test_tensorboard_is_a_configuration(tmp_path, monkeypatch):

    class_folders(tmp_path / "photos", each=4)
    monkeypatch.chdir(tmp_path)
    configs = [
        f"--config={ROOT / 'configs' / name}" for name in ("task/classification.yaml", "logger/tensorboard.yaml")
    ]
    tiny = (
        "--trainer.max_epochs=1 --model.input.size=[32,32] --data.batch_size=4 --trainer.accelerator=cpu --run=runs/a"
    )
    data = ["--data=FolderData", "--data.root=photos", "--model.backbone=test_resnet"]
    assert main(["fit", *configs, *data, *tiny.split()]) == 0
    assert list((tmp_path / "runs" / "a" / "tensorboard").rglob("events.out.tfevents*"))
