"""Masks: their loss, their way into file pixels, and the second stage that a graph serves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tasks.instance_segmentation import InstanceSegmentationTask
from tasks.instance_segmentation.loss import mask_rcnn_losses
from tasks.instance_segmentation.postprocess import FoundMasks
from tests.tasks.test_detection import SIZE, SPEC, TARGETS, TINY, build, images, target
from visionkit.errors import UsageError
from visionkit.export import export_bundle
from visionkit.families.detection.two_stage_loss import Sampled, mask_loss
from visionkit.geometry import Geometry
from visionkit.masks import decode_masks
from visionkit.predictor import Predictor, load
from visionkit.types import View


def test_the_mask_loss_reads_the_true_class_and_place() -> None:
    task = build("mask_rcnn").eval()
    outputs = task(images())
    boxes = torch.stack([TARGETS[0]["boxes"], torch.zeros(2, 4)])
    positive = torch.tensor([[False, True], [False, False]])
    sampled = Sampled(boxes, torch.tensor([[0, 1], [0, 0]]), positive, positive)
    network = task.network

    class Head(torch.nn.Module):
        def forward(self, maps, rois):
            assert rois.tolist() == [[0.0, *TARGETS[0]["boxes"][1].tolist()]]
            out = torch.full((1, 3, 28, 28), -30.0)
            out[:, 2] = 30.0  # the true class is 2, and its mask fills its box
            return out

    network.roi_head = Head()
    full = [{**TARGETS[0], "masks": torch.ones(2, *SIZE, dtype=torch.bool)}, TARGETS[1]]
    assert float(mask_loss(network, outputs, full, sampled, 10)) < 1e-6
    assert 0.1 < float(mask_loss(network, outputs, TARGETS, sampled, 10)) < 2, "the border of a mask is in between"
    elsewhere = [target([[5, 5, 9, 9]] * 2, [2, 2]), TARGETS[1]]
    other_class = [{**full[0], "labels": torch.tensor([0, 1])}, TARGETS[1]]
    for wrong in (elsewhere, other_class):
        assert float(mask_loss(network, outputs, wrong, sampled, 10)) > 10


def test_the_five_terms_are_the_same_every_time_save_in_training() -> None:
    torch.manual_seed(0)
    task = build("mask_rcnn").train()
    outputs = task(images())
    full = [{**each, "masks": torch.ones(len(each["boxes"]), *SIZE, dtype=torch.bool)} for each in TARGETS]
    settings = dataclasses.replace(task.architecture, rpn_batch_size_per_image=4, box_batch_size_per_image=4)

    def terms(training: bool) -> list[float]:
        found = mask_rcnn_losses(task.network, outputs, full, settings, masks_drawn=8, training=training)
        assert len(found) == 5 and "masks" in found and all(torch.isfinite(each) for each in found.values())
        return [float(each) for each in found.values()]

    assert terms(False) == terms(False)
    assert len({tuple(terms(True)) for _ in range(4)}) > 1


def test_masks_lie_in_file_pixels() -> None:
    task = build("mask_rcnn")
    masks = torch.zeros(1, 28, 28)
    masks[:, :, :14] = 1.0  # the left half
    found = FoundMasks(torch.tensor([[24.0, 16, 72, 48]]), torch.tensor([0.9]), torch.tensor([1]), masks, 0.5)
    (prediction,) = task.restore([found], [Geometry.plan(task.input, (128, 192))])
    assert prediction.boxes.tolist() == [[48.0, 32.0, 144.0, 96.0]] and prediction.size == (128, 192)
    drawn = decode_masks(prediction.masks, (128, 192))[0]
    assert drawn[40:90, 52:92].all() and not drawn[:, 100:].any() and not drawn[:30].any()
    flipped = Geometry.plan(task.input, (128, 192), View((0, 0, 192, 128), flip=True))
    drawn = decode_masks(task.restore([found], [flipped])[0].masks, (128, 192))[0]
    assert drawn[40:90, 100:140].all() and not drawn[:, :92].any()


def test_the_mask_threshold_is_an_option() -> None:
    predictor = Predictor(build("mask_rcnn").eval())
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    low, high = (predictor(image, score_threshold=0.0, mask_threshold=value) for value in (0.0, 1.0))
    assert len(low) == len(high) > 0
    areas = [decode_masks(prediction.masks, (50, 70)).sum() for prediction in (low, high)]
    assert areas[0] > 0 == areas[1]
    with pytest.raises(UsageError, match="mask_threshold 7: allowed is 0 to 1"):
        predictor(image, mask_threshold=7)


def test_roi_pool_is_a_switch_of_the_same_type() -> None:
    align = build("mask_rcnn")
    pool = build("mask_rcnn", own={"pooling": "pool"})
    pool.load_state_dict(align.state_dict())
    a, b = (task.eval()(images()) for task in (align, pool))
    assert type(a) is type(b) and not torch.equal(a.logits, b.logits)


@pytest.mark.slow
def test_a_bundle_serves_its_second_stage(tmp_path) -> None:
    torch.manual_seed(0)
    task = InstanceSegmentationTask(
        "test_resnet",
        classes=("a", "b"),
        input=SPEC,
        mask_rcnn={**TINY, "neck_channels": 16, "mask_hidden": 8, "strides": (8, 16)},
    ).eval()
    folder = export_bundle(task, tmp_path / "bundle", onnx=True)
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "model.roi.onnx"}
    graph = load(folder, engine="onnx")
    several = [np.random.default_rng(k).integers(0, 256, (60, 80 + k, 3), dtype=np.uint8) for k in range(2)]
    options = {"score_threshold": 0.0, "max_detections": 5}
    for ours, other in zip(Predictor(task)(several, **options), graph(several, **options), strict=True):
        assert len(ours) == len(other) == 5 and np.allclose(ours.scores, other.scores, atol=1e-5)
        different = decode_masks(ours.masks, ours.size) != decode_masks(other.masks, other.size)
        assert different.mean() < 1e-3
    assert len(graph(several[0], score_threshold=1.0)) == 0, "a graph is asked about nothing"
    assert graph.engine.second is not None
    assert task.input.size == SIZE
