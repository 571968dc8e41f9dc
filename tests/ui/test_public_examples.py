"""Example models on ordinary photographs, from the first minute, and without the network."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import skimage
from PIL import Image

from tasks.face_recognition.chain import FaceChain
from tasks.face_recognition.finding import DetectionFinder
from ui.cli import main
from ui.model_registry import ModelRegistry
from visionkit.predictor import load

PHOTOS = Path(skimage.__file__).parent / "data"
RIGHT = {
    "chelsea.png": {"tiger cat", "tabby", "Egyptian cat"},
    "coffee.png": {"espresso", "cup", "coffee mug"},
    "rocket.jpg": {"missile", "projectile", "space shuttle"},
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **options: object) -> NoReturn:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def test_the_first_example_model_names_what_photographs_show(no_network: None) -> None:
    first = ModelRegistry().entries()[0]
    assert first.task == "classification" and first.example_model and "Apache-2.0" in first.card["terms"]
    predictor = load(first.path)
    for name, right in RIGHT.items():
        found = [each.name for each in predictor(PHOTOS / name).top(5)]
        assert set(found) & right and found[0] in right, f"{name}: {found}"


def test_the_command_line_predicts_with_it(no_network: None, tmp_path: Path) -> None:
    assert main(["predict", "timm:tf_efficientnet_lite0", str(PHOTOS / "coffee.png"), "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "predictions.jsonl").read_text())
    assert "espresso" in json.dumps(record)


def test_the_example_model_of_faces_aligns_the_one_of_a_photograph() -> None:
    model_registry = ModelRegistry()
    finder, names = (
        model_registry.get(name).predictor() for name in ("pose/people_faces", "face_recognition/orl_faces")
    )
    poses = finder(PHOTOS / "astronaut.png")
    nose, left, right = poses.keypoints[int(poses.scores.argmax()), :3]
    assert np.hypot(*((left + right) / 2 - (226, 113))) < 12 and 25 < left[0] - right[0] < 60 and nose[1] > left[1]
    (face,) = FaceChain(names, DetectionFinder(finder))(PHOTOS / "astronaut.png").landmarks
    assert np.hypot(*(face[:2] - (right, left)).T).max() < 1e-3, "the eyes as they are seen"
    assert len(DetectionFinder(finder)(np.asarray(Image.open(PHOTOS / "coffee.png"))).boxes) == 0
