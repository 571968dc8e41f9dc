"""What the rows that train share: one batch again and again, a bare loop, the Trainer as `visionkit fit` sets it up."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from benchmarks.timing import Stopwatch
from visionkit.callbacks import NoProfiler, default_callbacks
from visionkit.geometry import Geometry
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler, parameter_groups
from visionkit.task import VisionTask
from visionkit.types import Batch

LOG_EVERY = 20
"""Steps between two entries of the log, as `visionkit fit` has it."""

WARM = 10
"""Steps of every run before the watch starts."""

Terms = Callable[[Any, Any], dict[str, Tensor]]


def hush() -> None:
    """Lightning's advice is not what a benchmark prints."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Batches:
    """The same batch again and again, for every arm."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.steps):
            yield self.batch


def random_batch(task: VisionTask, batch_size: int, pin: bool = False) -> Batch:
    """Noise and random labels, in the form that a loader gives them."""
    height, width = task.input.size
    image = torch.randint(0, 256, (batch_size, task.input.channels, height, width), dtype=torch.uint8)
    labels = torch.randint(0, len(task.classes), (batch_size,))
    return {
        "inputs": {"image": image.pin_memory() if pin else image},
        "target": {"labels": labels.pin_memory() if pin else labels},
        "geometry": [Geometry.plan(task.input, (height, width))] * batch_size,
        "id": [str(index) for index in range(batch_size)],
    }


def tensors_of(batch: Batch) -> Any:
    """The batch without geometry and ids, in which Lightning would look for tensors: the others are at their best."""
    return {"inputs": batch["inputs"], "target": batch["target"]}


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Watch(Callback):
    """Starts the clock once the first steps are done and stops it with the last."""

    def __init__(self, watch: Stopwatch, steps: int) -> None:
        self.watch, self.last = watch, steps - 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM:
            synchronize()
            self.watch.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.last:
            synchronize()
            self.watch.stop()


def optimization(task: VisionTask, steps: int) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
    """The task's optimizer and schedule, for arms that do not ask the task."""
    return optimization_of(task.network, task.optim, steps)


def optimization_of(
    network: nn.Module, config: OptimConfig, steps: int
) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
    """The same of any network."""
    optimizer = build_optimizer(parameter_groups(network, config), config)
    schedule = build_scheduler(optimizer, config, steps)
    assert schedule is not None
    return optimizer, schedule


def bare(
    task: VisionTask,
    batches: Batches,
    watch: Stopwatch,
    terms: Terms,
    model: nn.Module | None = None,
    device: str = "cpu",
    bfloat16: bool = False,
) -> None:
    """What a person writes who uses no framework.

    Args:
        task: Trained in place; nothing of it but its network, normalization and optimizer settings is used.
        batches: The data.
        watch: Started after the first steps, stopped after the last.
        terms: Outputs and target to named losses.
        model: Called in place of the task: wrapped for several processes.
        device: Device of the task.
        bfloat16: Forward under autocast.
    """
    model = model or task
    model.train()
    optimizer, schedule = optimization(task, len(batches))
    for index, batch in enumerate(batches):
        if index == WARM:
            synchronize()
            watch.start()
        image = batch["inputs"]["image"].to(device, non_blocking=True)
        target = {key: value.to(device, non_blocking=True) for key, value in batch["target"].items()}
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(terms(model(image), target).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule["scheduler"].step()
    synchronize()
    watch.stop()


def fit(
    module: LightningModule, batches: Batches, watch: Stopwatch, run: str, *, ours: bool, log: bool, **trainer: Any
) -> None:
    """One training under the Trainer.

    Args:
        module: Trained in place.
        batches: The data.
        watch: Started after the first steps, stopped after the last.
        run: A folder.
        ours: Ours, as `visionkit fit` sets it up: every callback, checkpoints, its logger.
        log: Log with a logger.
        **trainer: More arguments of the Trainer.
    """
    callbacks: list[Callback] = [Watch(watch, len(batches))]
    if ours:
        callbacks += default_callbacks(module, run=run, config={})  # type: ignore[arg-type]
    given: dict[str, Any] = {"accelerator": "cpu", "devices": 1, **trainer}
    made = Trainer(
        max_epochs=1,
        callbacks=callbacks,
        logger=CSVLogger(run) if log else False,
        profiler=NoProfiler() if ours else None,
        log_every_n_steps=LOG_EVERY,
        enable_checkpointing=ours,
        enable_progress_bar=ours,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run,
        **given,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the progress of ours
        made.fit(module, batches)


def ready(task: VisionTask) -> VisionTask:
    """A copy of the task, set up for training."""
    task = copy.deepcopy(task)
    task.setup("fit")
    return task.train()


def on(device: str) -> dict[str, Any]:
    """Arguments of the Trainer for a device: bfloat16 on a GPU."""
    return {"accelerator": "gpu", "precision": "bf16-mixed"} if device == "cuda" else {"accelerator": "cpu"}
