"""`visionkit calibrate`: what it stores is served everywhere, and taken out again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.scene_data import SceneData
from tasks.classification.task import ClassificationTask
from tasks.depth import DepthTask
from ui.cli import main
from visionkit import load
from visionkit.checkpoint import load_task, save_bundle, save_checkpoint
from visionkit.geometry import InputSpec
from visionkit.predictions import Prediction

CLASSES = tuple(SceneData.discover_classes("labels"))
SPEC = InputSpec(size=(32, 32), resize_mode="stretch")
DATA = ["--data", "SceneData", "--data.target", "labels", "--data.eval_count", "40", "--data.size", "[32, 40]"]
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A classifier that is far too sure of itself."""
    torch.manual_seed(0)
    task = ClassificationTask("test_resnet", classes=CLASSES, input=SPEC).eval()
    with torch.no_grad():
        task.network.head.classifier.weight *= 40
    results = [{"metric": name, "value": 0.5, "split": "val"} for name in ("top1", "calibration_error")]
    return save_bundle(task, tmp_path / "model", card={"results": results})


def test_a_bundle_is_calibrated_serves_it_with_its_graph_and_forgets_it(model: Path, tmp_path: Path, capsys):
    from visionkit.export import export_bundle

    onnx = export_bundle(model, tmp_path / "onnx", onnx=True, images=[IMAGE])
    before = load(onnx)(IMAGE)
    assert main(["calibrate", str(onnx), *DATA, "--conformal", "aps", "--alpha", "0.2"]) == 0
    assert "calibration error" in capsys.readouterr().out
    facts = json.loads((onnx / "model.json").read_text())
    temperature = facts["config"]["temperature"]
    assert temperature > 2 and facts["config"]["conformal"]["method"] == "aps"
    assert [row["metric"] for row in facts["card"]["results"]] == ["top1"]
    assert f"temperature {temperature:.4f} from 20 images" in (onnx / "README.md").read_text()

    task, served, graph = load_task(onnx), load(onnx)(IMAGE), load(onnx, engine="onnx")(IMAGE)
    outputs = task(load(onnx).prepare(IMAGE)["inputs"]["image"][None])
    by_hand = (outputs.logits.detach() / temperature).softmax(dim=1)[0].numpy()
    assert served.probabilities == pytest.approx(by_hand, abs=1e-6)
    assert graph.probabilities == pytest.approx(by_hand, abs=1e-4)
    assert served.best.name == before.best.name and served.best.probability < before.best.probability
    assert served.prediction_set[0] == served.best.name and served.coverage == pytest.approx(0.8)
    assert "80 % set: " in served.text() and Prediction.from_json(served.to_json()) == served
    assert graph.prediction_set == served.prediction_set

    assert main(["calibrate", str(onnx), "--temperature", "1"]) == 0
    assert load(onnx)(IMAGE) == before


def test_a_checkpoint_keeps_its_age_and_a_training_begins_uncalibrated(model: Path, tmp_path: Path, caplog):
    checkpoint = save_checkpoint(load_task(model), tmp_path / "best.ckpt")
    age = checkpoint.stat().st_mtime_ns
    assert main(["calibrate", str(checkpoint), "--temperature", "2.5"]) == 0
    task = load_task(checkpoint)
    assert isinstance(task, ClassificationTask) and task.temperature == 2.5
    assert checkpoint.stat().st_mtime_ns == age
    task.setup("fit")
    assert task.temperature == 1 and task.config["temperature"] == 1 and "dropped" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "0"], "a number above 0"),
        (["--conformal", "aps", "--alpha", "2"], "between 0 and 1"),
        (["--alpha", "0.2"], "--alpha: is of prediction sets; give --conformal lac or aps or raps with it"),
        (["--conformal", "aps", "--penalty", "0.1"], "--penalty: is of prediction sets; give --conformal raps"),
        (["--free-ranks", "2"], "--free-ranks: is of prediction sets; give --conformal raps"),
        (["--temperature", "1", "--conformal", "aps"], "leave DATA and --conformal out"),
        ([], "is no run that knows its data"),
        ([*DATA, "--data.eval_count", "10"], "needs at least 20"),
    ],
)
def test_what_makes_no_calibration_is_refused(model: Path, capsys, arguments: list[str], message: str):
    assert main(["calibrate", str(model), *arguments]) in (2, 3)
    assert message in capsys.readouterr().err


def test_other_tasks_are_refused(tmp_path: Path, capsys):
    other = save_bundle(DepthTask("test_resnet", input=SPEC), tmp_path / "depth", card={})
    assert main(["calibrate", str(other), "--temperature", "2"]) == 2
    assert "this one is of depth" in capsys.readouterr().err
