"""A training of seconds that uses everything a resume can break: dropout, mixup, augmentation, EMA, a schedule.

Run as a script it is the process that tests kill: python -m tests.tiny_training RUN [options]. It goes on from the
newest whole checkpoint in RUN, if there is one, and writes RUN/end.pt when training ends.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning import Callback, Trainer

from tasks.classification.task import ClassificationTask
from visionkit.callbacks import default_callbacks
from visionkit.checkpoint import find_last
from visionkit.data import Split, VisionDataModule
from visionkit.errors import VisionKitError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.optim import OptimConfig
from visionkit.types import Sample, View

SIZE = 24


class NoiseData(VisionDataModule):
    """Images of noise in two classes, one darker than the other."""

    def __init__(self, *, train: int = 40, val: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.counts = {"train": train, "val": val, "test": val}

    def dataset(self, split: Split) -> Sequence[Sample]:
        rng = np.random.default_rng({"train": 1, "val": 2, "test": 3}[split])
        samples = []
        for number in range(self.counts[split]):
            label = int(rng.integers(2))
            pixels = rng.integers(0, 200 + 50 * label, (SIZE + 8, SIZE + 8, 3), dtype=np.uint8)
            samples.append(Sample.of(ImageSource(pixels), {"labels": label}, f"{split}{number}"))
        return samples


def random_cut(sample: Sample, rng: np.random.Generator) -> Sample:
    """A random window, flipped half of the time."""
    x, y = (float(v) for v in rng.integers(0, 8, 2))
    view = View((x, y, x + SIZE, y + SIZE), flip=bool(rng.integers(2)))
    return Sample.of(sample.image, sample.target, sample.id, view)


def tiny_task(**kwargs: Any) -> ClassificationTask:
    options: dict[str, Any] = {
        "classes": ("dark", "light"),
        "input": InputSpec(size=(SIZE, SIZE), resize_mode="stretch"),
        "dropout": 0.3,
        "mixup": 0.4,
        "optim": OptimConfig(lr=3e-3, warmup=3),
    }
    return ClassificationTask("test_resnet", **{**options, **kwargs})


class Slowly(Callback):
    """Gives whoever kills the process a target that is not only the start-up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *args: Any) -> None:
        time.sleep(self.seconds)

    on_validation_batch_start = on_train_batch_start


class Killed(Callback):
    """Ends a training within a step, as a fault does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def train(
    run: Path,
    *,
    num_workers: int = 0,
    batch_size: int = 4,
    checkpoint_every: int = 2,
    ema: float = 0.9,
    extra: Sequence[Callback] = (),
    task: ClassificationTask | None = None,
    resume: bool = True,
    report: bool = True,
    train_images: int = 40,
    val_images: int = 10,
    **trainer_options: Any,
) -> Trainer:
    """Trains, from the newest whole checkpoint in `run` where there is one."""
    lightning.seed_everything(5, verbose=False)
    torch.use_deterministic_algorithms(True)
    task = task or tiny_task()
    data = NoiseData(
        train=train_images,
        val=val_images,
        input=task.input,
        classes=task.classes,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=5,
        augment=random_cut,
    )
    options: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": False,
        "enable_model_summary": False,
        "log_every_n_steps": 4,
        "num_sanity_val_steps": 0,
    }
    callbacks = default_callbacks(task, run=run, ema=ema, checkpoint_every=checkpoint_every, report=report)
    trainer = Trainer(default_root_dir=run, callbacks=[*extra, *callbacks], **{**options, **trainer_options})
    checkpoint = find_last(run / "checkpoints") if resume else None
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint)
    return trainer


def fingerprint(value: Any) -> str:
    """A hash over every bit of a nested value; paths, times and versions are left out."""
    digest = hashlib.sha256()

    def walk(item: Any, name: str) -> None:
        digest.update(name.encode())
        if isinstance(item, torch.Tensor):
            digest.update(str((item.dtype, tuple(item.shape))).encode())
            digest.update(item.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(item, dict):
            for key in sorted(item, key=str):
                if key not in {"best_model_path", "pytorch-lightning_version"}:
                    walk(item[key], f"{name}/{key}")
        elif isinstance(item, (list, tuple)):
            for index, each in enumerate(item):
                walk(each, f"{name}/{index}")
        else:
            digest.update(repr(item).encode())

    walk(value, "")
    return digest.hexdigest()


def end_state(run: Path, data: str = NoiseData.__name__) -> dict[str, str]:
    """Fingerprints of the parts of a run's last checkpoint; `data` names the class of its data module."""
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    loops = checkpoint["loops"]["fit_loop"]
    parts = {
        "average": checkpoint["state_dict"],
        "weights": checkpoint.get("current_model_state"),
        "averaging": checkpoint.get("averaging_state"),
        "optimizer": checkpoint["optimizer_states"],
        "schedule": checkpoint["lr_schedulers"],
        "best": checkpoint["callbacks"]["Checkpointing"],
        "sampler": checkpoint[data],
        "step": checkpoint["global_step"],
        "epochs": loops["epoch_progress"],
        "batches": loops["epoch_loop.batch_progress"],
    }
    return {name: fingerprint(part) for name, part in parts.items()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--slowly", type=float, default=0.0)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--val-images", type=int, default=10)
    arguments = parser.parse_args()
    options: dict[str, Any] = {"accumulate_grad_batches": arguments.accumulate, "max_epochs": arguments.epochs}
    if arguments.devices > 1:
        options |= {"devices": arguments.devices, "strategy": "ddp"}
    try:
        trainer = train(
            arguments.run,
            num_workers=arguments.workers,
            checkpoint_every=arguments.every,
            extra=[Slowly(arguments.slowly)] if arguments.slowly else [],
            val_images=arguments.val_images,
            **options,
        )
    except VisionKitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.status
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        torch.save({"metrics": metrics}, arguments.run / "end.pt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
