"""Semantic segmentation on real street scenes."""

from __future__ import annotations

import pytest
import torch

from datamodules.segmentation import LabelMapData
from tasks.semantic_segmentation import SemanticSegmentationTask
from tests.real_data import real_data
from visionkit.geometry import InputSpec
from visionkit.loading import collate
from visionkit.optim import OptimConfig, build_optimizer
from visionkit.preprocess import Preprocessor

CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_example_models_network_overfits_four_images():
    """At a third of their size, in minutes on one thread."""
    torch.manual_seed(0)
    spec = InputSpec(size=(128, 160), resize_mode="stretch")
    task = SemanticSegmentationTask(
        "regnetx_002",
        unet={"channels": [96, 64, 48, 32, 16]},
        classes=CLASSES,
        input=spec,
        losses={"cross_entropy": 1.0, "dice": 0.5},
        optim=OptimConfig(lr=3e-3, weight_decay=0.0),
    ).train()
    data = LabelMapData(
        str(real_data("semantic_segmentation/camvid_subset")),
        images="{split}",
        labels="{split}annot",
        classes=CLASSES,
        ignore=[11],
        input=spec,
    )
    samples = data.samples("train")
    preprocessor = Preprocessor(spec)
    batch = collate([preprocessor(samples[k]) for k in range(0, 46, 12)])
    assert len(batch["id"]) == 4
    optimizer = build_optimizer(task.parameter_groups(), task.optim)
    reached: dict[str, float] = {}
    for step in range(1, 401):
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step > 200:  # settle
            optimizer.param_groups[0]["lr"] *= 0.98
        if step % 50 == 0:
            task.eval()
            with torch.inference_mode():
                task.measure(task.decode(task.run(batch)), batch)
            reached = {name: float(value) for name, value in task.metrics.compute().items() if value.numel() == 1}
            task.metrics.reset()
            task.train()
            print(
                f"step {step}: loss {loss.item():.4f} mean IoU {reached['mean_iou']:.4f} "
                f"pixel accuracy {reached['pixel_accuracy']:.4f}",
                flush=True,
            )
            if reached["mean_iou"] >= 0.95:
                break
    assert reached["mean_iou"] >= 0.9 and reached["pixel_accuracy"] >= 0.98
