"""Training from Python is the training of the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from datamodules.augmentation import DenseAugment
from datamodules.scene_data import SceneData
from tasks.classification.task import ClassificationTask
from ui.cli import main
from visionkit import fit, load
from visionkit.checkpoint import read_checkpoint
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.remembered import described

CLASSES = tuple(SceneData.discover_classes("labels"))


def parts(**changes):
    spec = InputSpec(size=(32, 32), resize_mode="stretch")
    task = ClassificationTask("test_resnet", classes=CLASSES, input=spec, optim=OptimConfig(lr=0.01), **changes)
    return task, SceneData(target="labels", count=8, eval_count=4, size=(32, 40), batch_size=4)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"]
    return found


def test_fit_refuses_names_and_classes_in_place_of_objects():
    task, data = parts()
    for given, message in (
        (("classification", data), "fit: task is 'classification'; give an object of a VisionTask"),
        ((ClassificationTask, data), "fit: task is ClassificationTask; give"),
        ((task, "SceneData"), "fit: data is 'SceneData'; give an object of a VisionDataModule"),
        ((data, task), "fit: task is <"),
    ):
        with pytest.raises(UsageError, match=message):
            fit(*given)


def test_fit_leaves_a_run_that_the_command_line_repeats_and_goes_on_with(tmp_path):
    torch.manual_seed(0)
    task, data = parts()
    run = fit(task, data, run=tmp_path / "a", max_epochs=1, enable_progress_bar=False)
    assert run.folder == tmp_path / "a" and run.best is not None and run.last is not None
    assert run.metrics["val/loss"] > 0 and not run.stopped_early
    assert data.input == task.input and data.classes == CLASSES
    assert load(run.best)(torch.zeros(9, 9, 3, dtype=torch.uint8).numpy()).best.name in CLASSES
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["data"]["init_args"]["count"] == 8 and "classes" not in config["data"]["init_args"]

    # Its configuration trains on from the same checkpoint to the same weights as Python does.
    first = shutil.copy(run.last, tmp_path / "first.ckpt")
    again, more = parts()
    python = fit(again, more, run=tmp_path / "a", ckpt_path=first, max_epochs=2, enable_progress_bar=False)
    assert python.last is not None
    typed = ["fit", "-c", str(run.folder / "config.yaml"), "--trainer.max_epochs", "2", "--run", str(tmp_path / "b")]
    assert main([*typed, "--ckpt_path", str(first)]) == 0
    ours, other = weights(python.last), weights(next((tmp_path / "b" / "checkpoints").glob("last*.ckpt")))
    assert all(torch.equal(ours[name], other[name]) for name in ours)


def test_early_stopping_watches_the_metric_that_chooses_the_best(tmp_path):
    task, data = parts()
    task.optim = OptimConfig(lr=1e-12, warmup=0)  # nothing improves
    options = {"max_epochs": 9, "enable_progress_bar": False, "report": False}
    run = fit(task, data, run=tmp_path / "a", early_stopping=2, **options)
    assert run.stopped_early.startswith(f"stopped early after epoch 3 of 9: {task.monitor[0]} did not get better than ")
    assert run.last is not None
    # The checkpoint holds the count, so a resume within it stops at the same validation.
    stored = read_checkpoint(run.last)["callbacks"]
    (state,) = [state for name, state in stored.items() if name.startswith("EarlyStopping")]
    assert state["wait_count"] == 2
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["early_stopping"] == 2
    with pytest.raises(UsageError, match="early_stopping -1: 0 "):
        fit(*parts(), run=tmp_path / "b", early_stopping=-1)


def test_a_run_is_not_overwritten(tmp_path):
    fit(*parts(), run=tmp_path / "a", max_epochs=1, enable_progress_bar=False, report=False)
    with pytest.raises(UsageError, match="holds a run already"):
        fit(*parts(), run=tmp_path / "a", max_epochs=1)


def test_weights_of_another_model_are_the_first_ones(tmp_path, capsys):
    first = fit(*parts(), run=tmp_path / "a", max_epochs=1, enable_progress_bar=False, report=False)
    assert first.last is not None
    fit(*parts(), run=tmp_path / "b", init_from=first.last, max_epochs=1, max_steps=1, report=False)
    assert "all weights are taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": CLASSES[::-1]}, f"the task's class 0 is '{CLASSES[0]}' and the data's is '{CLASSES[-1]}'"),
        ({"input": InputSpec(size=(64, 64))}, "data.input differs from the task's"),
    ],
)
def test_task_and_data_that_disagree_are_refused(tmp_path, changes, message):
    task, data = parts()
    for name, value in changes.items():
        setattr(data, name, value)
    with pytest.raises(UsageError, match=message):
        fit(task, data, run=tmp_path / "a", max_epochs=1)
    assert not (tmp_path / "a").exists()


def test_options_of_the_trainer_are_checked(tmp_path):
    with pytest.raises(UsageError, match=r"trainer\.gradient_clip_val -1"):
        fit(*parts(), run=tmp_path / "a", max_epochs=1, gradient_clip_val=-1)


def test_what_an_object_was_built_with_is_written_down():
    data = SceneData(target="depth", augment=DenseAugment(horizontal_flip=0.25))
    found = described(data)
    assert found["class_path"] == "datamodules.scene_data.SceneData"
    assert found["init_args"]["augment"]["class_path"] == "datamodules.augmentation.presets.DenseAugment"
    assert found["init_args"]["augment"]["init_args"]["horizontal_flip"] == 0.25
    with pytest.raises(TypeError, match="cannot be stored"):
        described(SceneData(augment=lambda sample, rng: sample))
