"""Trainings of seconds, sharded and unsharded, on ranks that `tests.ranks` has started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from tasks.classification.task import ClassificationTask
from tests.tiny_training import SIZE, train
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.sharding.strategy import FSDP2Strategy


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *rest: Any) -> None:
        self.values.append(float(outputs["loss"]))


def trained(
    rank: int, run: str, world: int, strategy: dict[str, Any] | str, **options: Any
) -> tuple[list[float], dict[str, float]]:
    """Trains, from the newest whole checkpoint in `run` where there is one.

    Args:
        rank: This process.
        run: Folder of the run.
        world: Number of processes.
        strategy: Arguments of `FSDP2Strategy`, or the name of another strategy.
        **options: See `tests.tiny_training.train`; `backbone` and `optimizer` too.

    Returns:
        Losses of the steps on this process, and the metrics.
    """
    Path(run).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    task = ClassificationTask(
        options.pop("backbone", "test_vit"),
        classes=("dark", "light"),
        input=InputSpec(size=(SIZE + 8, SIZE + 8), resize_mode="stretch"),
        dropout=0.2,
        mixup=0.4,
        optim=OptimConfig(name=options.pop("optimizer", "adamw"), lr=1e-3, warmup=3),
    )
    losses = Losses()
    chosen = FSDP2Strategy(**{"min_num_params": 0, **strategy}) if isinstance(strategy, dict) else strategy
    extra = [losses, *options.pop("callbacks", ())]
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "checkpoint_every": 1,
        "train_images": 24,
        "val_images": 9,
        "gradient_clip_val": 0.5,
    }
    given = {**defaults, "devices": world, "strategy": chosen, **options}
    trainer = train(Path(run), task=task, extra=extra, **given)
    return losses.values, {name: float(value) for name, value in trainer.callback_metrics.items()}
