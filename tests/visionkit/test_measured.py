"""While a stored model is measured, what it states about itself wins over a yaml and is not to be denied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from datamodules.scene_data import SceneData
from tasks.classification import ClassificationTask
from tasks.pose import PoseTask
from tasks.super_resolution import SuperResolutionTask
from ui.cli import main
from visionkit.checkpoint import save_checkpoint
from visionkit.geometry import InputSpec

SCENES = ["--data", "SceneData", "--data.count", "2", "--data.eval_count", "2", "--data.batch_size", "2"]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--results", "results.json"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def measure(*arguments: str) -> int:
    return main(["test", *arguments, *QUIET])


@pytest.fixture
def enlarging() -> str:
    spec = InputSpec(size=(24, 24), resize_mode="native", divisor=1, interpolation="bicubic", bits=16)
    task = SuperResolutionTask("compact", scale=4, compact={"width": 8, "blocks": 1}, input=spec)
    return str(save_checkpoint(task, Path("x4.ckpt")))


def test_a_shipped_yaml_does_not_change_the_model(enlarging, capsys):
    data = [*SCENES, "--data.target", "high_res", "--data.size", "[48,48]"]
    assert measure("-c", "super_resolution", "--ckpt_path", enlarging, *data) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--model.scale", "2"], "--model.scale 2: contradicts x4.ckpt, which was trained with 4"),
        (["--model.architecture=edsr"], "--model.architecture edsr: contradicts"),
        (["--model", "ClassificationTask"], "--model ClassificationTask: x4.ckpt holds a SuperResolutionTask"),
        (["--model.input.channels", "1"], "--model.input.channels 1: contradicts"),
    ],
)
def test_a_typed_option_that_denies_the_model_is_refused(typed, message, enlarging, capsys):
    assert measure("--ckpt_path", enlarging, *typed, *SCENES, "--data.target", "high_res") == 2
    said = capsys.readouterr().err
    assert message in said and len(said.strip().splitlines()) == 1


def test_what_is_measured_otherwise_may_be_typed_and_is_reported(capsys):
    task = ClassificationTask(
        "test_resnet",
        classes=SceneData.discover_classes(target="labels"),
        input=InputSpec(size=(32, 32)),
    )
    save_checkpoint(task, Path("a.ckpt"))
    data = [*SCENES, "--data.target", "labels"]
    Path("other.yaml").write_text("model: {class_path: PoseTask, init_args: {backbone: resnet50, flip_tta: true}}\n")
    assert measure("-c", "other.yaml", "--ckpt_path", "a.ckpt", "--model.backbone", "test_resnet", *data) == 0
    assert measure("--ckpt_path", "a.ckpt", "--model.input.size", "[48,48]", *data) == 0
    assert "model.input.size: [48, 48] (the checkpoint has [32, 32])" in capsys.readouterr().err


def test_the_skeleton_comes_from_the_checkpoint(capsys):
    """Labels whose keypoints no shipped skeleton has: the model knows them."""
    names = ["beak", "tail", "wing"]
    skeleton = {"name": "bird", "keypoints": names, "edges": [], "subject": "bird"}
    task = PoseTask(
        "test_resnet",
        skeleton=skeleton,
        input=InputSpec(size=(32, 32), resize_mode="stretch"),
        simple_baseline={"width": 8},
    )
    save_checkpoint(task, Path("bird.ckpt"))
    for split in ("train", "val", "test"):
        Path("images", split).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(f"images/{split}/0.png")
        points = [10, 10, 2, 20, 20, 2, 15, 30, 2]
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}
        content = {
            "images": [{"id": 1, "file_name": "0.png", "width": 40, "height": 40}],
            "annotations": [{**annotation, "keypoints": points, "num_keypoints": 3}],
            "categories": [{"id": 1, "name": "bird", "keypoints": names, "skeleton": []}],
        }
        Path("annotations").mkdir(exist_ok=True)
        Path(f"annotations/person_keypoints_{split}.json").write_text(json.dumps(content))
    data = ["--data", "CocoKeypointData", "--data.root", ".", "--data.batch_size", "1"]
    assert measure("--ckpt_path", "bird.ckpt", *data) == 0, capsys.readouterr().err
