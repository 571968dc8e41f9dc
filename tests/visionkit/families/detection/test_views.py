"""Tiles and test-time augmentation of detectors: evaluation measures what is served, and how passes are fused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.scene_data import SceneData
from tasks.detection.task import DetectionTask
from tasks.instance_segmentation.task import InstanceSegmentationTask
from visionkit.engines import _feed
from visionkit.errors import UsageError
from visionkit.families.detection.fusion import fuse_boxes, fuse_detections
from visionkit.families.detection.views import DetectorViews
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.masks import encode_masks
from visionkit.predictions import Detections, Instances
from visionkit.predictor import Predictor
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View

SPEC = InputSpec(size=(64, 64), resize_mode="letterbox")
CLASSES = ("a", "b")


def detector(spec: InputSpec = SPEC, **arguments: Any) -> DetectionTask:
    torch.manual_seed(0)
    own: Any = {"score_threshold": 0.0, "max_detections": 20, "fcos": {"neck_channels": 16, "convs": 1}}
    return DetectionTask("test_resnet", classes=CLASSES, input=spec, **{**own, **arguments}).eval()


def masks(**arguments: Any) -> InstanceSegmentationTask:
    torch.manual_seed(0)
    small = {"neck_channels": 16, "hidden": 16, "mask_hidden": 8, "post_nms_top_n": 20}
    own: Any = {"score_threshold": 0.0, "max_detections": 5, "mask_rcnn": small}
    return InstanceSegmentationTask("test_resnet", classes=CLASSES, input=SPEC, **{**own, **arguments}).eval()


def evaluated(task: Any, size: tuple[int, int], num_workers: int = 0, **data: Any) -> tuple[Any, list[Any], list[Any]]:
    """Metrics, predictions and images of a validation by hand."""
    target = "masks" if isinstance(task, InstanceSegmentationTask) else "boxes"
    read = SceneData(target, count=1, eval_count=2, size=size, batch_size=2, num_workers=num_workers, **data)
    read.input, read.trainer = task.input, SimpleNamespace(lightning_module=task)  # type: ignore[assignment]
    task.metrics.reset()
    predictions = []
    for batch in read.val_dataloader():
        for each in batch["target"]:
            each["labels"] = each["labels"] % len(CLASSES)
        with torch.no_grad():
            predictions += task.predictions(task.validation_step(batch, 0), batch)
    values = {name: value for name, value in task.metrics.compute().items() if value.numel() == 1}
    return values, predictions, [sample.image for sample in read.samples("val")]


def same(first: Any, second: Any) -> bool:
    keys = ("boxes", "scores", "labels")
    return all(np.array_equal(getattr(first, key), getattr(second, key)) for key in keys) and getattr(
        first, "masks", ()
    ) == getattr(second, "masks", ())


@pytest.mark.parametrize("build", [detector, masks])
def test_images_that_fit_into_a_tile_are_measured_exactly_as_whole_ones(build: Any) -> None:
    whole, tiled = evaluated(build(), (80, 96)), evaluated(build(tile=96), (80, 96))
    assert all(map(same, whole[1], tiled[1]))
    assert whole[0].keys() == tiled[0].keys()
    assert all(torch.equal(whole[0][name], tiled[0][name]) for name in whole[0])


@pytest.mark.parametrize("build", [detector, masks])
@pytest.mark.parametrize("options", [{"tile": 100}, {"flip_tta": True, "tta_scales": [0.5]}])
def test_evaluation_measures_what_is_served(build: Any, options: dict[str, Any]) -> None:
    task = build(**options)
    values, predictions, sources = evaluated(task, (120, 150))
    served = [Predictor(task)(image) for image in sources]
    assert all(len(each) for each in served)
    for ours, theirs in zip(predictions, served, strict=True):
        assert type(ours) is type(theirs) and ours.labels.tolist() == theirs.labels.tolist()
        assert np.allclose(ours.boxes, theirs.boxes, atol=1e-2) and np.allclose(ours.scores, theirs.scores, atol=1e-4)
    plain = evaluated(build(), (120, 150))[1]
    assert not any(map(same, plain, predictions)), "the views change something"
    assert all(torch.isfinite(value) for value in values.values())


def test_images_of_many_sizes_share_a_batch_with_and_without_tiles() -> None:
    spec = InputSpec(size=(64, 64), resize_mode="native")
    task = detector(spec, tile=100)
    _, predictions, sources = evaluated(task, (64, 90), max_size=(130, 140))
    views = [len(task.plan(image).views) for image in sources]
    for image, ours in zip(sources, predictions, strict=True):
        assert ours.size == image.size
    assert max(views) > 1


def test_workers_make_the_same_views() -> None:
    task = detector(tile=100, flip_tta=True)
    assert all(map(same, evaluated(task, (120, 150))[1], evaluated(task, (120, 150), num_workers=1)[1]))


def test_the_protocol_states_the_views() -> None:
    assert "tiles" not in detector().protocol and "augmentation" not in detector().protocol
    stated = detector(tile=640, flip_tta=True, tta_scales=[1.5, 1]).protocol
    assert "images above 640 pixels a side also in overlapping tiles of 640" in stated
    assert "4 passes (flipped and at 1, 1.5 of the input) joined by weighted box fusion from IoU 0.55" in stated


def test_what_the_views_are() -> None:
    views = DetectorViews(flip=True, scales=(0.5,))((30, 45))
    box = (0, 0, 45, 30)
    assert views == [View(box, True), View(box, input_scale=0.5), View(box, True, input_scale=0.5)]
    assert DetectorViews(tile=64)((64, 64)) == [] and len(DetectorViews(tile=64, flip=True)((64, 65))) == 5
    for mode, size in (("letterbox", (128, 192)), ("stretch", (128, 192)), ("native", (64, 96))):
        spec = InputSpec(size=(64, 96), resize_mode=mode)  # type: ignore[arg-type]
        assert Geometry.plan(spec, (30, 45), View(box, input_scale=2.0)).size == size
    sample = Sample.of(ImageSource(np.random.default_rng(0).integers(0, 255, (30, 45, 3), np.uint8)))
    prepare = Preprocessor(InputSpec(size=(64, 96), resize_mode="letterbox"))
    plain, flipped = prepare(sample), prepare(sample.changed(view=views[0]))
    assert torch.equal(plain["inputs"]["image"].flip(-1), flipped["inputs"]["image"])
    boxes = np.array([[5.0, 6, 15, 16]])
    whole = prepare(sample.changed(view=View(box)))["geometry"]
    assert torch.equal(plain["geometry"].apply_boxes(boxes), whole.apply_boxes(boxes))


def test_calls_choose_views_and_bad_ones_are_refused() -> None:
    task, image = detector(), np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    predictor = Predictor(task)
    assert {"tile", "flip_tta", "tta_scales"} <= set(predictor.options)
    plain, flipped = predictor(image), predictor(image, flip_tta=True)
    mirrored = Predictor(task)(image, views=[View((0, 0, 80, 60), True)])
    fused = fuse_detections([plain, mirrored], most=task.limits.detections)
    assert np.array_equal(flipped.labels, fused.labels) and not same(plain, flipped)
    # A batch of both views rounds otherwise than each by itself.
    assert np.allclose(flipped.boxes, fused.boxes, atol=1e-3) and np.allclose(flipped.scores, fused.scores, atol=1e-5)
    assert len(predictor(image, flip_tta=True, max_detections=3)) == 3
    assert (predictor(image, flip_tta=True, score_threshold=0.0105).scores >= 0.0105).all()
    assert task.has_tta() == "" and detector(tta_scales=[2]).has_tta() == "tta_scales"
    for arguments, message in (
        ({"tta_scales": [9]}, r"tta_scales 9: allowed are numbers from 0\.25 to 4"),
        ({"tta_scales": "0.5"}, "give a list of numbers"),
        ({"flip_tta": True, "spec": InputSpec(size=(64, 64), resize_mode="crop")}, "needs whole images"),
        ({"tta_scales": [0.5], "backbone": "vit"}, "takes inputs of one size"),
    ):
        with pytest.raises(UsageError, match=message):
            if arguments.pop("backbone", None):
                DetectionTask("test_vit", classes=CLASSES, fcos={"neck_channels": 16, "convs": 1}, **arguments)
            else:
                detector(**arguments)


def test_a_graph_of_one_size_refuses_another() -> None:
    image = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    assert _feed(("image",), (image,), {"image": ("height", 64)})["image"].shape == (1, 3, 32, 64)
    with pytest.raises(UsageError, match="takes images of 64x64, not 32x64; leave tta_scales out or use engine torch"):
        _feed(("image",), (image,), {"image": (64, 64)})


def test_fused_boxes_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 12], [0, 0, 10, 10.0]])
    fused = fuse_boxes(boxes, np.array([0.9, 0.8, 0.6, 0.5]), np.array([0, 0, 0, 1]), passes=2)
    # Two members of .9 and .6: their weighted mean and mean score. What one pass alone found has half of its score.
    assert np.allclose(fused.boxes, [[0, 0, 10, 10.8], [50, 50, 60, 60], [0, 0, 10, 10]])
    assert np.allclose(fused.scores, [0.75, 0.4, 0.25])
    assert fused.labels.tolist() == [0, 0, 1] and fused.best.tolist() == [0, 1, 3]
    # The third overlaps the first by .48 alone, and the mean of the first two by .6.
    chain = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [3.5, 0, 13.5, 10.0]])
    fused = fuse_boxes(chain, np.array([0.6, 0.6, 0.5]), np.zeros(3, np.int64), passes=3)
    assert np.allclose(fused.boxes, [[(0.6 * 2 + 0.5 * 3.5) / 1.7, 0, 10 + (0.6 * 2 + 0.5 * 3.5) / 1.7, 10]])
    assert np.allclose(fused.scores, [1.7 / 3])
    assert len(fuse_boxes(chain, np.array([0.6, 0.6, 0.5]), np.zeros(3, np.int64), passes=3, iou=0.75).scores) == 3
    # More members than passes, of one pass that found an object twice, are no more than all passes.
    assert np.allclose(fuse_boxes(chain[[0, 0, 0]], np.full(3, 0.6), np.zeros(3, np.int64), passes=2).scores, 0.6)
    empty = fuse_boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), passes=2)
    assert [len(part) for part in empty] == [0, 0, 0, 0]


def test_fused_boxes_are_those_of_the_authors_implementation() -> None:
    # The example of their documentation, with equal weights and the published overlap, as their version 1.0.9 fuses it.
    first = [[0, 51, 81, 91], [10, 31, 71, 61], [1, 32, 83, 93], [2, 53, 11, 94], [3, 24, 12, 35]]
    second = [[4, 56, 84, 92], [12, 33, 72, 64], [38, 66, 79, 95], [8, 49, 21, 89]]
    scores = np.array([0.9, 0.8, 0.2, 0.4, 0.7, 0.5, 0.8, 0.7, 0.3])
    fused = fuse_boxes(np.array(first + second) / 100, scores, np.array([0, 1, 0, 1, 1, 1, 1, 1, 0]), passes=2)
    assert np.allclose(fused.boxes[0], [0.11, 0.32, 0.715, 0.625])
    assert np.allclose(fused.boxes[1], [0.001818, 0.475455, 0.813636, 0.913636], atol=1e-6)
    assert np.allclose(fused.scores, [0.8, 0.55, 0.35, 0.35, 0.25, 0.2, 0.15])
    assert fused.labels.tolist() == [1, 0, 1, 1, 1, 1, 0]


def test_a_fused_object_has_the_mask_of_its_highest_scoring_member() -> None:
    small, large = np.zeros((2, 1, 20, 20), bool)
    small[0, :10, :10], large[0, :12, :10] = True, True
    first = Instances(("a",), (20, 20), [[0, 0, 10, 10]], [0.4], [0], masks=tuple(encode_masks(small)))
    second = Instances(("a",), (20, 20), [[0, 0, 10, 12]], [0.6], [0], masks=tuple(encode_masks(large)))
    fused = fuse_detections([first, second])
    assert isinstance(fused, Instances) and fused.masks == second.masks
    assert np.allclose(fused.boxes, [[0, 0, 10, 11.2]]) and np.allclose(fused.scores, [0.5])
    nothing = Detections(("a",), (20, 20), np.zeros((0, 4)), [], [])
    assert len(fuse_detections([nothing, nothing])) == 0
