"""The toy tasks of this folder: how they are installed, trained and asked in tests."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, Trainer

from tests.contracts.toy_adversarial import ToyAdversarial, ToyAdversarialData
from tests.contracts.toy_clip import ToyClip, ToyClipData
from tests.contracts.toy_pair import ToyPair, ToyPairData
from tests.own_package import look_again, own_packages
from tests.processes import SERVER
from visionkit.callbacks import default_callbacks
from visionkit.checkpoint import find_last
from visionkit.data import VisionDataModule
from visionkit.optim import OptimConfig
from visionkit.task import VisionTask

TOYS: dict[str, tuple[type[VisionTask], type[VisionDataModule]]] = {
    "toy_pair": (ToyPair, ToyPairData),
    "toy_clip": (ToyClip, ToyClipData),
    "toy_adversarial": (ToyAdversarial, ToyAdversarialData),
}


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The toys are tasks of an installed package in this block.

    Args:
        folder: An empty folder for the package's metadata.
    """
    metadata = folder / "toys-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 0.1\n")
    points = [f"{name} = {task.__module__}:{task.__name__}" for name, (task, _) in TOYS.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[visionkit.tasks]", *points, ""]))
    with own_packages(folder):
        sys.path.insert(0, str(folder))
        look_again()
        yield


def build(name: str, **arguments: Any) -> VisionTask:
    """A toy with random weights that are equal each time."""
    torch.manual_seed(3)
    return TOYS[name][0](**{"optim": OptimConfig(lr=5e-3, warmup=2), **arguments})


def data_of(name: str, task: VisionTask, batch_size: int = 4, **arguments: Any) -> VisionDataModule:
    """The data of a toy."""
    given = {"input": task.input, "classes": task.classes, "batch_size": batch_size, "seed": 5, **arguments}
    return TOYS[name][1](**given)


def train(
    name: str,
    run: Path,
    *,
    dropout: float = 0.2,
    batch_size: int = 4,
    ema: float = 0.9,
    checkpoint_every: int = 1,
    extra: Sequence[Callback] = (),
    **options: Any,
) -> Trainer:
    """Trains a toy, from the newest whole checkpoint in `run` where there is one."""
    lightning.seed_everything(5, verbose=False)
    torch.use_deterministic_algorithms(True)
    task = build(name, dropout=dropout)
    given: dict[str, Any] = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "logger": False,
        "enable_model_summary": False,
        "log_every_n_steps": 2,
        "num_sanity_val_steps": 0,
        **options,
    }
    callbacks = default_callbacks(
        task, run=run, ema=ema, checkpoint_every=checkpoint_every, report=False, show_progress=False
    )
    trainer = Trainer(default_root_dir=run, callbacks=[*extra, *callbacks], **given)
    folder = run / "checkpoints"
    trainer.fit(
        task, datamodule=data_of(name, task, batch_size), ckpt_path=find_last(folder) if folder.is_dir() else None
    )
    return trainer


class Killer(Callback):
    """Ends its process by SIGKILL, as a machine that loses power would: before the first batch after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train_and_kill(name: str, run: Path, step: int, **options: Any) -> None:
    """Trains in a process of its own, which gets `kill -9` after some steps."""
    process = SERVER.Process(target=_killed, args=(name, run, step, options))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _killed(name: str, run: Path, step: int, options: Mapping[str, Any]) -> None:
    train(name, run, extra=[Killer(step)], **options)


def as_rank(rank: int) -> dict[str, Any]:
    """Options of a trainer in one of two processes that are a group already, see `tests.ranks`."""
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    return {"devices": 2, "strategy": "ddp", "accelerator": "cpu"}
