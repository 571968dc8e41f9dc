"""The part of row 4 that is detection's: a network of ResNet-50 class at 1280x960 that answers a hundred boxes.

- `network`: the task's forward on a tensor that lies ready, in inference mode, weights channels-last.
- `ours`: array in, a hundred boxes with names in file pixels out.

A network with random weights says nothing, and what comes after it would look free. So the threshold is laid where a
thousand places pass it, as on a crowded picture, and a hundred boxes are answered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.timing import Stopwatch
from tasks.detection import DetectionTask
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor

CLASSES, PASSING, BOXES = 80, 1000, 100


def arms(picture: np.ndarray, quick: bool) -> dict[str, timing.Arm]:
    """The two arms; each answers the picture once."""
    torch.manual_seed(0)
    size = (240, 320) if quick else (960, 1280)
    task = DetectionTask(
        "test_resnet" if quick else "resnet50",
        classes=[f"class {index}" for index in range(CLASSES)],
        input=InputSpec(size=size, fit="letterbox"),
        width=32 if quick else 256,
    ).eval()
    task.setup("predict")
    predictor = Predictor(task)
    ready = predictor.prepare(picture)["image"][None]
    with torch.inference_mode():
        out: Any = task(ready)
        scores = (out.logits.sigmoid() * out.centerness[..., None].sigmoid()).sqrt()
        threshold = float(scores.flatten().topk(PASSING).values[-1])
    assert len(predictor(picture, score_threshold=threshold)) == BOXES, "the answer is not what is to be timed"

    @torch.inference_mode()
    def network(watch: Stopwatch) -> Any:
        return task(ready)

    def ours(watch: Stopwatch) -> Any:
        return predictor(picture, score_threshold=threshold)

    return {"network": network, "ours": ours}
