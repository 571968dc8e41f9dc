"""A tiny detector whose scores differ, and images to label with it: what the tests of `visionkit label` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from visionkit.geometry import InputSpec

CLASSES = ("bolt", "nut", "washer")
SPREAD = 8.0


def save_detector(folder: Path) -> Path:
    """Writes a bundle of a detector with random weights, which finds a few objects in most images."""
    from tasks.detection import DetectionTask
    from visionkit.checkpoint import save_bundle

    torch.manual_seed(0)
    spec = InputSpec(size=(64, 64), resize_mode="stretch")
    fcos = {"neck_channels": 16, "convs": 1}
    task = DetectionTask("test_resnet", classes=CLASSES, input=spec, fcos=fcos, max_detections=6).eval()
    head: Any = task.network.head
    with torch.no_grad():
        head.logits.weight.mul_(SPREAD)  # scores that differ, so that equal ones mean something
        head.logits.bias.fill_(-2.0)
        head.centerness.bias.fill_(2.0)
    save_bundle(task, folder, card={"name": "Hardware"})
    return folder


def draw_images(folder: Path, number: int) -> list[Path]:
    """Writes images of colored squares, each unlike the others."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    paths = []
    for k in range(number):
        pixels = np.full((72, 96, 3), rng.integers(60, 200, 3), dtype=np.uint8)
        for _ in range(3):
            y, x = rng.integers(0, 48), rng.integers(0, 72)
            pixels[y : y + 24, x : x + 24] = rng.integers(0, 256, 3)
        paths.append(folder / f"{k:03}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths
