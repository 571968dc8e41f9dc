"""Poses as they are served: exported graphs of every network, and crops taken behind a detector that was trained."""

import json

import numpy as np
import pytest
import torch

from datamodules.scene_data import SceneData
from tasks.detection import DetectionTask
from tests.tasks.test_keypoint_rcnn import SMALL
from tests.tasks.test_pose import tiny
from ui.cli import main
from visionkit.chain import Chain
from visionkit.checkpoint import save_bundle
from visionkit.export import export_bundle
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.optim import OptimConfig, build_optimizer
from visionkit.predictor import Predictor, load
from visionkit.types import View


def with_opinions(task):
    """Random weights whose maps have peaks."""
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return task.eval()


# The contract suite does the same with `simple_baseline`; the slow ones export what others have, or two graphs.
@pytest.mark.parametrize(
    "coding",
    [
        "cpm udp",
        pytest.param("deeppose", marks=pytest.mark.slow),
        "openpose",
        pytest.param("cpm", marks=pytest.mark.slow),
        pytest.param("keypoint_rcnn", marks=pytest.mark.slow),
    ],
)
def test_the_graph_of_every_network_predicts_as_torch_does(coding, tmp_path):
    torch.manual_seed(0)
    arguments = {"own": SMALL} if coding == "keypoint_rcnn" else {}
    task = with_opinions(tiny(coding, **arguments))
    several = [np.random.default_rng(k).integers(0, 256, (60, 80 + k, 3), dtype=np.uint8) for k in range(3)]
    export_bundle(task, tmp_path / "bundle", onnx=True, card={"data": "noise"}, images=several)
    ours, graph = Predictor(task), load(tmp_path / "bundle", engine="onnx")
    assert (tmp_path / "bundle/model.roi.onnx").exists() == (coding == "keypoint_rcnn")
    for source_image in several:
        image = ours.prepare(source_image, task.plan(ImageSource(source_image)).views[0])["inputs"]["image"][None]
        raw, exported = ours.engine(image), graph.engine(image)
        assert type(raw) is type(exported)
        for a, b in zip(raw, exported, strict=True):
            assert a is None or b is None or torch.allclose(a.float(), b.float(), atol=1e-4, rtol=1e-4)
    for a, b in zip(ours(several), graph(several), strict=True):
        assert len(a) == len(b) and (coding == "openpose" or len(a) > 0)
        assert np.allclose(a.keypoints, b.keypoints, atol=1e-2) and np.allclose(
            a.keypoint_scores, b.keypoint_scores, atol=1e-4
        )


@pytest.fixture(scope="module")
def scenes():
    return SceneData("keypoints", count=4, eval_count=2, size=(96, 128), input=SPEC, batch_size=4, seed=3)


SPEC = InputSpec(size=(96, 128), resize_mode="letterbox")


@pytest.fixture(scope="module")
def detector(scenes):
    """Overfits the people of four scenes."""
    torch.manual_seed(0)
    task = DetectionTask(
        "test_resnet",
        classes=["person"],
        input=SPEC,
        fcos={"neck_channels": 32, "convs": 1},
        optim=OptimConfig(lr=3e-3, weight_decay=0.0),
    ).train()
    batch = next(iter(scenes.train_dataloader()))
    for each in batch["target"]:
        each["labels"] = torch.zeros(len(each["boxes"]), dtype=torch.long)
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    for _ in range(150):
        loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Predictor(task.eval())


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(1)
    return Predictor(with_opinions(tiny(input=InputSpec(size=(64, 48), resize_mode="stretch"))))


def overlap(box, boxes):
    """Intersection over union of one box with several."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def test_a_trained_detector_s_people_are_processed_in_their_own_crops(scenes, detector, estimator):
    chain = Chain(detector, estimator)
    looked = 0
    for sample in scenes.samples("train"):
        image, true = sample.image.read(), np.asarray(sample.target["boxes"], dtype=float)
        prediction, found = chain(image), detector(image)
        assert len(prediction) == (found.scores >= 0.3).sum()
        for box, keypoints, score in zip(prediction.boxes, prediction.keypoints, prediction.scores, strict=True):
            row = int(np.abs(found.boxes - box).sum(axis=1).argmin())
            crop = View(estimator.task.crop.region(tuple(found.boxes[row]), estimator.task.input.size))
            alone = estimator(image, views=[crop])
            assert np.allclose(box, found.boxes[row]) and np.allclose(keypoints, alone.keypoints[0], atol=1e-3)
            assert score == pytest.approx(float(alone.scores[0] * found.scores[row]), abs=1e-5)
            looked += overlap(box, true).max() > 0.5
    assert looked >= 4, "the people that it learned"


def test_both_models_behind_each_other_on_the_command_line(scenes, detector, estimator, tmp_path):
    from PIL import Image

    sample = scenes.samples("train")[0]
    Image.fromarray(sample.image.read()).save(tmp_path / "photo.png")
    for name, predictor in (("find", detector), ("estimate", estimator)):
        save_bundle(predictor.task, tmp_path / name, card={"data": "scenes"})
    arguments = [str(tmp_path / "estimate"), str(tmp_path / "photo.png"), "--detector", str(tmp_path / "find")]
    assert main(["predict", *arguments, "--out", str(tmp_path / "out"), "--draw"]) == 0
    (line,) = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    expected = Chain(detector, estimator)(tmp_path / "photo.png")
    assert json.loads(line)["prediction"] == json.loads(json.dumps(expected.to_json())) and len(expected) > 0
