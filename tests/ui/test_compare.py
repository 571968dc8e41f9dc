"""`visionkit compare`, and intervals of `visionkit test --bootstrap`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from datamodules.scene_data import SceneData
from tasks.classification.task import ClassificationTask
from tasks.depth import DepthTask
from tasks.face_recognition.task import FaceRecognitionTask
from ui.cli import main
from visionkit.checkpoint import save_bundle, save_checkpoint
from visionkit.geometry import InputSpec
from visionkit.run_report.summary import SUMMARY, with_test_results

CLASSES = tuple(SceneData.discover_classes("labels"))
SPEC = InputSpec(size=(32, 32), resize_mode="stretch")
DATA = ["--data", "SceneData", "--data.target", "labels", "--data.eval_count", "20", "--data.size", "[32, 40]"]


def model(folder: Path, seed: int, **arguments) -> str:
    torch.manual_seed(seed)
    return str(
        save_bundle(
            ClassificationTask("test_resnet", **{"classes": CLASSES, "input": SPEC} | arguments), folder, card={}
        )
    )


def test_two_models_on_one_split(tmp_path: Path, capsys):
    a, b = model(tmp_path / "a", 0), model(tmp_path / "b", 1)
    assert main(["compare", a, b, *DATA, "--replicates", "100", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == 20 and record["task"] == "classification" and "paired by image" in record["method"]
    top1 = next(each for each in record["metrics"] if each["metric"] == "top1")
    assert top1["difference"] == pytest.approx(top1["second"] - top1["first"]) and 0 < top1["p"] <= 1
    assert main(["compare", a, a, *DATA, "--replicates", "100"]) == 0
    assert "+0.0000" in capsys.readouterr().out


def test_unlike_models_are_refused(tmp_path: Path, capsys):
    a, b = model(tmp_path / "a", 0), model(tmp_path / "b", 1, input=InputSpec(size=(48, 48), resize_mode="stretch"))
    depth = str(save_bundle(DepthTask("test_resnet", input=SPEC), tmp_path / "depth", card={}))
    other = model(tmp_path / "other", 0, classes=("x", "y"))
    turned = model(tmp_path / "turned", 0, classes=CLASSES[::-1])
    for second, message in (
        (depth, "compare models of one task"),
        (other, f"{other} alone has x, y"),
        (turned, "another order"),
        (b, "measured in different ways"),
    ):
        assert main(["compare", a, second, *DATA, "--replicates", "100"]) == 2
        assert message in capsys.readouterr().err
    assert main(["compare", a, a]) == 2
    assert "is no run that knows its data" in capsys.readouterr().err


def test_a_test_states_intervals_everywhere(tmp_path: Path, capsys):
    run = tmp_path / "run"
    task = ClassificationTask("test_resnet", classes=CLASSES, input=SPEC)
    checkpoint = save_checkpoint(task, run / "checkpoints" / "best.ckpt")
    (run / SUMMARY).write_text("{}")
    results = tmp_path / "results.json"
    arguments = ["test", "--ckpt_path", str(checkpoint), *DATA, "--results", str(results)]
    assert main([*arguments, "--bootstrap", "50"]) == 2
    assert main(arguments) == 0
    plain = json.loads(results.read_text())
    capsys.readouterr()
    assert main([*arguments, "--bootstrap", "100"]) == 0
    assert "95 % interval" in (printed := capsys.readouterr().out) and "100 bootstrap replicates by image" in printed
    record = json.loads(results.read_text())
    assert record["metrics"] == pytest.approx(plain["metrics"]) and "intervals" not in plain
    low, high = record["intervals"]["test/top1"]
    assert low <= record["metrics"]["test/top1"] <= high and record["no_interval"] == ["test/calibration_error"]
    measured = json.loads((run / SUMMARY).read_text())["test"]
    assert measured["intervals"] == record["intervals"]
    card = with_test_results({"step": measured["step"]}, checkpoint)
    assert next(row for row in card["results"] if row["metric"] == "top1")["interval"] == [low, high]
    bundle = save_bundle(task, tmp_path / "bundle", card=card)
    assert f"{low:.4f} to {high:.4f}" in (bundle / "README.md").read_text()


def test_faces_are_compared_by_people(tmp_path: Path, capsys):
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        task = FaceRecognitionTask("test_resnet", identities=0, embedding=16, input=SPEC)
        models.append(str(save_bundle(task, tmp_path / f"{seed}", card={})))
    data = [word.replace("labels", "identity").replace("20", "24") for word in DATA]
    assert main(["compare", *models, *data, "--replicates", "100"]) == 0
    printed = capsys.readouterr().out
    assert "paired by identity" in printed and "p by the bootstrap, not by permutation: " in printed
    assert " eer " in printed and " threshold  " not in printed
