"""A detector that aggregates frames and drawn clips for it, small enough for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, Trainer

from datamodules.augmentation import ObjectAugment
from datamodules.clip_data import ClipData
from tasks.detection.task import DetectionTask
from visionkit.callbacks import default_callbacks
from visionkit.checkpoint import find_last
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.predictions import Detections, Prediction
from visionkit.synthetic import OBJECT_CLASSES, ClipSettings
from visionkit.types import Batch

CLIP = ClipSettings(size=(48, 64), length=6, objects=(3, 4), speed=0.06)
INPUT = InputSpec(size=(48, 64), resize_mode="stretch", reference_frames=2)
SMALL = {
    "strides": (8, 16), "neck_channels": 16, "hidden": 32, "canonical_box_size": 56, "pre_nms_top_n": 50,
    "post_nms_top_n": 20, "train_pre_nms_top_n": 50, "train_post_nms_top_n": 20, "rpn_batch_size_per_image": 16,
    "box_batch_size_per_image": 16,
}  # fmt: skip


def detector(aggregate: int = 8, input: InputSpec = INPUT, **own: Any) -> DetectionTask:
    """A detector with random weights that are equal each time, whose references matter."""
    torch.manual_seed(0)
    arguments = {**SMALL, "aggregate": aggregate, **own}
    task = DetectionTask(
        "test_resnet", architecture="faster_rcnn", classes=OBJECT_CLASSES, input=input, faster_rcnn=arguments,
        score_threshold=0.0, optim=OptimConfig(lr=3e-3, warmup=2),
    )  # fmt: skip
    for each in task.network.box_head.aggregations or ():  # which begin with zeros
        torch.nn.init.normal_(each.out.weight, std=0.5)
    return task.eval()


def train(run: Path, *, extra: Sequence[Callback] = (), **options: Any) -> Trainer:
    """Trains on two drawn clips, from the newest whole checkpoint in `run` where there is one."""
    lightning.seed_everything(5, verbose=False)
    torch.use_deterministic_algorithms(True)
    task = detector().train()
    data = ClipData(count=2, eval_count=1, clip=CLIP, input=INPUT, batch_size=3, seed=5, augment=ObjectAugment())
    given: dict[str, Any] = {
        "max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_model_summary": False,
        "log_every_n_steps": 2, "num_sanity_val_steps": 0, **options,
    }  # fmt: skip
    callbacks = default_callbacks(task, run=run, ema=0.9, checkpoint_every=1, report=False, show_progress=False)
    trainer = Trainer(default_root_dir=run, callbacks=[*extra, *callbacks], **given)
    folder = run / "checkpoints"
    trainer.fit(task, datamodule=data, ckpt_path=find_last(folder) if folder.is_dir() else None)
    return trainer


class NearTruth(DetectionTask):
    """Predicts the true boxes of a batch, some moved and some of another class, with scores that many objects share."""

    def predictions(self, decoded: Any, batch: Batch) -> list[Prediction]:
        found: list[Prediction] = []
        for target, geometry, frame in zip(batch["target"], batch["geometry"], batch["frame"], strict=True):
            ids, labels = target["track_ids"].numpy(), target["labels"].numpy()
            moved = ((7 * ids + 3 * frame) % 5)[:, None] * [1.0, 0, 1, 0]
            scores, classes = 0.5 + 0.1 * ((ids + frame) % 4), (labels + (ids + frame) % 5 // 4) % len(self.classes)
            found.append(
                Detections(self.classes, geometry.source, target["file_boxes"].numpy() + moved, scores, classes)
            )
        return found


def evaluated(options: dict[str, Any], folder: str) -> dict[str, float]:
    """Measures detections and tracks of three drawn clips.

    Args:
        options: Options of the trainer.
        folder: Folder of the trainer.
    """
    task = NearTruth(
        "test_resnet",
        architecture="faster_rcnn",
        classes=OBJECT_CLASSES,
        input=INPUT,
        faster_rcnn={**SMALL, "aggregate": 8},
    )
    data = ClipData(eval_count=3, clip=CLIP, input=INPUT, batch_size=2, tracker="sort")
    trainer = Trainer(
        default_root_dir=folder, logger=False, enable_progress_bar=False, enable_checkpointing=False, **options
    )
    (found,) = trainer.validate(task, datamodule=data, verbose=False)
    loader: Any = trainer.val_dataloaders
    # Losses depend on random weights, and on which frames share a batch.
    return {name: float(value) for name, value in found.items() if "loss" not in name} | {
        "samples": len(loader.sampler)
    }
