"""Row 4 for the tasks that predict boxes, masks or maps: networks of ResNet-50 class, array in, prediction out.

Two arms per task:

- `network`: the task's forward on a tensor that lies ready, in inference mode, weights channels-last; for masks the
  second stage too.
- `ours`: array in, the prediction in file pixels out.

A network with random weights carries no information, and what comes after it would look free. So detection's threshold
is laid where a thousand places pass it, as on a crowded image, and a hundred boxes are processed; masks are drawn ones
of COCO's sizes, put in place of what the second stage stated; scores of classes are smooth, as those of networks are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import row05_label_map, row06_mask_encoding, timing
from benchmarks.timing import Stopwatch
from tasks.depth import DepthTask
from tasks.detection import DetectionTask
from tasks.instance_segmentation import InstanceSegmentationTask
from tasks.semantic_segmentation import SemanticSegmentationTask
from tasks.semantic_segmentation.network import SegmentationOutputs
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor
from visionkit.task import VisionTask

CLASSES, PASSING, BOXES = 80, 1000, 100
LABELS = 21


def _names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def _ready(task: VisionTask, image: np.ndarray) -> tuple[Any, Tensor]:
    task.setup("predict")
    predictor = Predictor(task)
    return predictor, predictor.prepare(image)["inputs"]["image"][None]


def _pair(network: Callable[[], Any], ours: Callable[[], Any]) -> dict[str, timing.Arm]:
    @torch.inference_mode()
    def alone(watch: Stopwatch) -> Any:
        return network()

    return {"network": alone, "ours": lambda watch: ours()}


def detection(image: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """FCOS at 1280x960, a hundred boxes."""
    task = DetectionTask(
        "test_resnet" if quick else "resnet50",
        classes=_names(CLASSES),
        input=InputSpec(size=(240, 320) if quick else (960, 1280), resize_mode="letterbox"),
        fcos={"neck_channels": 32 if quick else 256},
    ).eval()
    predictor, ready = _ready(task, image)
    with torch.inference_mode():
        out: Any = task(ready)
        scores = (out.logits.sigmoid() * out.centerness[..., None].sigmoid()).sqrt()
        threshold = float(scores.flatten().topk(PASSING).values[-1])
    assert len(predictor(image, score_threshold=threshold)) == BOXES, "the prediction is not what is to be timed"
    return _pair(lambda: task(ready), lambda: predictor(image, score_threshold=threshold))


def queries(image: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """D-FINE of size s at 640x640, a hundred boxes of 300 queries."""
    task = DetectionTask(
        "test_resnet" if quick else "resnet50",
        classes=_names(CLASSES),
        architecture="dfine",
        input=InputSpec(size=(128, 128) if quick else (640, 640), resize_mode="stretch"),
        dfine={"size": "n", "strides": (8, 16, 32)} if quick else {"size": "s"},
    ).eval()
    predictor, ready = _ready(task, image)
    assert len(predictor(image, score_threshold=0.0)) == BOXES, "the prediction is not what is to be timed"
    return _pair(lambda: task(ready), lambda: predictor(image, score_threshold=0.0))


def instances(image: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """Mask R-CNN at 640x480, a hundred masks on a file of 1280x960."""
    task = InstanceSegmentationTask(
        "test_resnet" if quick else "resnet50",
        classes=_names(CLASSES),
        input=InputSpec(size=(128, 160) if quick else (480, 640), resize_mode="letterbox"),
        mask_rcnn={"neck_channels": 32 if quick else 256},
    ).eval()
    predictor, ready = _ready(task, image)
    maps, boxes = row06_mask_encoding.objects((ready.shape[-2], ready.shape[-1]), BOXES)
    rois = torch.cat([torch.zeros(BOXES, 1), boxes], dim=1)
    decode = task.decode

    @functools.wraps(decode)
    def with_drawn(outputs: Any, **controls: Any) -> Any:
        """The task's own prediction of as many objects, their boxes and masks replaced by drawn ones."""
        (found,) = decode(outputs, **controls)
        return [found._replace(boxes=boxes, masks=maps)]

    task.decode = with_drawn  # type: ignore[method-assign, assignment]
    with torch.inference_mode():
        out: Any = task(ready)
        scores = out.logits.float().softmax(dim=-1)[..., 1:].flatten()
    threshold = float(scores.topk(min(PASSING, len(scores))).values[-1])
    wanted: dict[str, Any] = {"score_threshold": threshold, "nms_threshold": 0.9, "max_detections": BOXES}
    assert len(predictor(image, **wanted)) == BOXES, "the prediction is not what is to be timed"

    def network() -> Any:
        outputs = task(ready)
        return outputs, task.network.read_rois(outputs, rois)

    return _pair(network, lambda: predictor(image, **wanted))


def segmentation(image: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """FPN, 512x512, 21 classes."""
    side = 128 if quick else 512
    task = SemanticSegmentationTask(
        "test_resnet" if quick else "resnet50",
        architecture="fpn",
        classes=_names(LABELS),
        input=InputSpec(size=(side, side), resize_mode="letterbox"),
    ).eval()
    predictor, ready = _ready(task, image)
    smooth = row05_label_map.scores(LABELS, side // 4)[None]
    decode = task.decode

    def with_smooth(outputs: SegmentationOutputs) -> Tensor:
        """What the decoder's scores cost, and scores as a network that has learned something gives them."""
        assert decode(outputs).shape == smooth.shape
        return smooth

    task.decode = with_smooth  # type: ignore[method-assign]
    return _pair(lambda: task(ready), lambda: predictor(image))


def depth(image: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """U-Net, 240x320, meters at file size."""
    task = DepthTask("test_resnet" if quick else "resnet50").eval()
    predictor, ready = _ready(task, image)
    return _pair(lambda: task(ready), lambda: predictor(image))


TASKS: dict[str, tuple[Callable[[np.ndarray, bool], dict[str, timing.Arm]], float]] = {
    "detection, 100 boxes": (detection, 1.05),
    "detection with queries, 100 boxes": (queries, 1.05),
    "instance segmentation, 100 masks": (instances, 1.10),
    "semantic segmentation, 21 classes": (segmentation, 1.10),
    "depth": (depth, 1.05),
}
"""What builds the arms of each, and how many times the network's time the whole may take."""
