"""Graphs of detectors that take images at their own size, made from a small one and used on any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visionkit.export import export_bundle
from visionkit.geometry import InputSpec
from visionkit.predictor import load
from visionkit.registry import task_class

SMALL: dict[str, dict[str, Any]] = {
    "retinanet": {"neck_channels": 32, "convs": 1},
    "fcos": {"neck_channels": 32, "convs": 1},
    "ssd": {},
    "faster_rcnn": {"neck_channels": 32, "hidden": 32},
    "mask_rcnn": {"neck_channels": 32, "hidden": 32},
    "dfine": {"size": "n", "strides": (8, 16, 32), "queries": 30},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_graph_of_a_small_image_holds_for_every_size(name: str, tmp_path: Path) -> None:
    """At 64 pixels the coarsest map has one position, which was one in the graph for every image."""
    torch.manual_seed(0)
    task = task_class("instance_segmentation" if name == "mask_rcnn" else "detection")(
        "test_resnet",
        architecture=name,
        classes=["cat", "dog"],
        input=InputSpec(size=(64, 64), resize_mode="native"),
        **{name: SMALL[name]},
    )
    folder = export_bundle(task.eval(), tmp_path / "bundle", onnx=True)
    ours, graph = (load(folder, engine=engine) for engine in ("torch", "onnx"))
    rng = np.random.default_rng(0)
    for size in ((64, 64), (96, 160), (200, 120), (40, 300)):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        expected, found = (each(image, score_threshold=0.0) for each in (ours, graph))
        assert len(found.scores) == len(expected.scores) > 0
        np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-5)
