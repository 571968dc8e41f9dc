"""The demo's chain of a detector and a model that processes crops, and when a detector can be chosen."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.pose import PoseTask
from tests.visionkit.test_chain import StubDetector
from ui.inference import Upload, predict
from ui.joined_requests import JoinedRequests
from visionkit.bundle import save_bundle
from visionkit.chain import Chain
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return Predictor(
        PoseTask(
            "test_resnet", input=InputSpec(size=(64, 48), resize_mode="stretch"), simple_baseline={"width": 16}
        ).eval()
    )


def test_an_predictions_behind_a_detector_is_that_of_python(estimator, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    detector = StubDetector()
    loaded = {"pose": estimator, "finder": detector}
    model_registry = SimpleNamespace(
        get=lambda name: SimpleNamespace(lock=threading.Lock(), ready=lambda: loaded[name], joined=JoinedRequests())
    )
    upload = Upload(str(tmp_path / "a.png"), "a.png")
    message = predict(model_registry, "pose", upload, "finder")
    assert message.prediction == Chain(detector, estimator)(pixels) and len(message.prediction) == 2
    assert len(predict(model_registry, "pose", upload).prediction) == 1, "without one the image is one person"
    assert message.total >= message.network > 0


def test_a_detector_is_offered_for_models_of_crops_alone(estimator, tmp_path):
    from ui.model_registry import ModelRegistry
    from ui.pages.base import detectors, takes_crops

    save_bundle(estimator.task, tmp_path / "crops", card={})
    whole = PoseTask("test_resnet", architecture="openpose", openpose={"width": 16, "stage_width": 8})
    save_bundle(whole, tmp_path / "whole", card={})
    model_registry = ModelRegistry(tmp_path)
    assert takes_crops(model_registry, "crops") and not takes_crops(model_registry, "whole")
    assert not takes_crops(model_registry, None)
    offered = detectors(model_registry)
    assert offered[0][1] == "" and not {"crops", "whole"} & {name for _, name in offered}


def test_a_detector_is_offered_for_checkpoints_too(estimator, tmp_path):
    """Of a checkpoint only its file states that it runs on crops, or finds the boxes for another."""
    from tasks.detection import DetectionTask
    from ui.model_registry import ModelRegistry
    from ui.pages.base import detector_choice, detectors, takes_crops
    from visionkit.checkpoint import save_checkpoint

    whole = PoseTask("test_resnet", architecture="openpose", openpose={"width": 16, "stage_width": 8})
    finder = DetectionTask("test_resnet", classes=["person"], input=InputSpec(size=(64, 64)))
    for name, task in (("crops", estimator.task), ("whole", whole), ("finder", finder)):
        save_checkpoint(task, tmp_path / f"{name}.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"no checkpoint")
    model_registry = ModelRegistry(tmp_path)
    assert not takes_crops(model_registry, "crops.ckpt"), "nothing is opened to show the page"
    crops = [
        takes_crops(model_registry, f"{name}.ckpt", opened=True) for name in ("crops", "whole", "finder", "damaged")
    ]
    assert crops == [True, False, False, False] and not takes_crops(model_registry, "timm:resnet18", opened=True)
    names = {name for _, name in detectors(model_registry, opened=True)}
    assert "finder.ckpt" in names and not {"crops.ckpt", "damaged.ckpt"} & names
    assert (
        detector_choice(model_registry, "crops.ckpt")["visible"]
        and not detector_choice(model_registry, "whole.ckpt")["visible"]
    )
    save_checkpoint(whole, tmp_path / "crops.ckpt", overwrite=True)  # as a training replaces it
    os.utime(tmp_path / "crops.ckpt", (1, 1))
    assert not takes_crops(model_registry, "crops.ckpt", opened=True)
