"""The demo's chain of a detector and a model that looks at crops, and when a detector can be chosen."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.pose import PoseTask
from tests.visionkit.test_chain import StubDetector
from ui.answering import Upload, answer
from visionkit.bundle import save_bundle
from visionkit.chain import Chain
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    return Predictor(
        PoseTask("test_resnet", input=InputSpec(size=(64, 48), fit="stretch"), simple_baseline={"width": 16}).eval()
    )


def test_an_answer_behind_a_detector_is_that_of_python(estimator, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    detector = StubDetector()
    loaded = {"pose": estimator, "finder": detector}
    catalogue = SimpleNamespace(get=lambda name: SimpleNamespace(lock=threading.Lock(), predictor=lambda: loaded[name]))
    upload = Upload(str(tmp_path / "a.png"), "a.png")
    told = answer(catalogue, "pose", upload, "finder")
    assert told.prediction == Chain(detector, estimator)(pixels) and len(told.prediction) == 2
    assert len(answer(catalogue, "pose", upload).prediction) == 1, "without one the picture is one person"
    assert told.total >= told.network > 0


def test_a_detector_is_offered_for_models_of_crops_alone(estimator, tmp_path):
    from ui.catalogue import Catalogue
    from ui.pages.base import detectors, takes_crops

    save_bundle(estimator.task, tmp_path / "crops", card={})
    whole = PoseTask("test_resnet", architecture="openpose", openpose={"width": 16, "stage_width": 8})
    save_bundle(whole, tmp_path / "whole", card={})
    catalogue = Catalogue(tmp_path)
    assert takes_crops(catalogue, "crops") and not takes_crops(catalogue, "whole")
    assert not takes_crops(catalogue, None)
    offered = detectors(catalogue)
    assert offered[0][1] == "" and not {"crops", "whole"} & {name for _, name in offered}


def test_a_detector_is_offered_for_checkpoints_too(estimator, tmp_path):
    """Of a checkpoint only its file says that it runs on crops, or finds the boxes for another."""
    from tasks.detection import DetectionTask
    from ui.catalogue import Catalogue
    from ui.pages.base import detector_choice, detectors, takes_crops
    from visionkit.checkpoint import save_checkpoint

    whole = PoseTask("test_resnet", architecture="openpose", width=16, stage_width=8)
    finder = DetectionTask("test_resnet", classes=["person"], input=InputSpec(size=(64, 64)))
    for name, task in (("crops", estimator.task), ("whole", whole), ("finder", finder)):
        save_checkpoint(task, tmp_path / f"{name}.ckpt")
    (tmp_path / "damaged.ckpt").write_bytes(b"no checkpoint")
    catalogue = Catalogue(tmp_path)
    assert not takes_crops(catalogue, "crops.ckpt"), "nothing is opened to show the page"
    crops = [takes_crops(catalogue, f"{name}.ckpt", opened=True) for name in ("crops", "whole", "finder", "damaged")]
    assert crops == [True, False, False, False] and not takes_crops(catalogue, "timm:resnet18", opened=True)
    names = {name for _, name in detectors(catalogue, opened=True)}
    assert "finder.ckpt" in names and not {"crops.ckpt", "damaged.ckpt"} & names
    assert (
        detector_choice(catalogue, "crops.ckpt")["visible"] and not detector_choice(catalogue, "whole.ckpt")["visible"]
    )
    save_checkpoint(whole, tmp_path / "crops.ckpt", overwrite=True)  # as a training replaces it
    os.utime(tmp_path / "crops.ckpt", (1, 1))
    assert not takes_crops(catalogue, "crops.ckpt", opened=True)
