"""A model that finds faces before one that recognizes them: in the demo, over its interface and in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.detection import DetectionTask
from tasks.face_recognition.chain import FaceChain
from tasks.face_recognition.finding import DetectionFinder
from tasks.face_recognition.task import FaceRecognitionTask
from tasks.pose import PoseTask
from ui.cli import main
from ui.inference import Upload, predict
from ui.model_registry import ModelRegistry
from ui.pages.base import detector_choice, detector_of, detectors, takes_crops
from visionkit.bundle import save_bundle
from visionkit.geometry import InputSpec
from visionkit.predictor import load

OPTIONS = {"hidden": 16, "keypoint_hidden": 8, "neck_channels": 16, "post_nms_top_n": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face model, one that finds faces with keypoints, and two that find people."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    spec, whole = InputSpec(size=(32, 32), resize_mode="stretch"), InputSpec(size=(64, 64), resize_mode="letterbox")
    tasks = {
        "names": FaceRecognitionTask("test_resnet", embedding=16, input=spec),
        "finder": PoseTask(
            "test_resnet", architecture="keypoint_rcnn", skeleton="head5", input=whole, keypoint_rcnn=OPTIONS
        ),
        "people": PoseTask("test_resnet", architecture="keypoint_rcnn", input=whole, keypoint_rcnn=OPTIONS),
        "persons": DetectionTask("test_resnet", classes=["person", "dog"], input=whole),
        "faces": DetectionTask("test_resnet", classes=["face", "hand"], input=whole),
    }
    for name, task in tasks.items():
        save_bundle(task.eval(), folder / name, card={"name": name})
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(path)
    return path


def test_a_face_model_is_offered_what_finds_faces(models: Path) -> None:
    model_registry = ModelRegistry(models)
    own = {"names", "finder", "people", "persons", "faces"}
    assert own & {name for _, name in detectors(model_registry, "names")} == {"finder", "faces"}
    assert own & {name for _, name in detectors(model_registry, "people")} == {"persons", "faces"}
    assert takes_crops(model_registry, "names") and not takes_crops(model_registry, "finder")
    assert detectors(model_registry, "names")[0] == ("built in: frontal faces", "")


def test_a_detector_of_the_model_before_is_forgotten(models: Path) -> None:
    model_registry = ModelRegistry(models)
    assert detector_of(model_registry, "names", "finder") == "finder"
    assert detector_of(model_registry, "names", "persons") is None
    assert detector_choice(model_registry, "names", "finder")["value"] == "finder"
    assert detector_choice(model_registry, "names", "persons")["value"] == ""
    assert detector_of(model_registry, "finder", "faces") is None


def test_the_demo_predicts_behind_the_chosen_finder(models: Path, photo: Path) -> None:
    pixels = np.asarray(Image.open(photo))
    result = predict(ModelRegistry(models), "names", Upload(str(photo), "photo.png"), "faces")
    expected = FaceChain(load(models / "names"), DetectionFinder(load(models / "faces")), whole=True)(pixels)
    assert result.prediction == expected


def test_the_terminal_finds_faces_by_a_model(models: Path, photo: Path, tmp_path: Path) -> None:
    arguments = ["predict", str(models / "names"), str(photo), "--detector", str(models / "finder")]
    assert main([*arguments, "--box-score", "0", "--out", str(tmp_path / "out")]) == 0
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text("utf-8").splitlines()
    record = json.loads(line)["prediction"]
    chain = FaceChain(load(models / "names"), DetectionFinder(load(models / "finder"), threshold=0.0))
    assert record == json.loads(json.dumps(chain(photo).to_json()))
    assert record["faces_found"] == len(record["faces"]) > 1
    sides = [np.prod(np.subtract(each["box"][2:], each["box"][:2])) for each in record["faces"]]
    assert sides == sorted(sides, reverse=True), "the largest is face 1"
    assert main([*arguments[:4], str(models / "persons"), "--out", str(tmp_path / "no")]) == 2
