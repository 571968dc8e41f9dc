"""Row 1: what a training step costs beyond a bare PyTorch loop, with ten scalars and a metric logged.

Four arms run the same network, optimiser, schedule and batches:

- `bare`: forward, ten loss terms, backward, optimiser, schedule; logs nothing.
- `trainer`: Lightning's Trainer with a module that logs nothing and no callbacks: the limit.
- `ours`: a task with ten terms and an accuracy, with all callbacks that `visionkit fit` brings and its logger.
- `log_dict`: the peer, Lightning as its documentation has it: `self.log_dict` of ten scalars and `self.log` of a metric.

The first part has a network so small that the overhead is most of the step; the second a step of 25 ms or more.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from benchmarks import timing
from benchmarks.timing import Goal, Options, Report, Stopwatch
from tasks.classification import ClassificationTask
from tasks.classification.network import ClassificationOutputs
from visionkit.callbacks import NoProfiler, default_callbacks
from visionkit.geometry import Geometry, InputSpec
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler, parameter_groups
from visionkit.task import TermLog
from visionkit.types import Batch

TERMS = 10
LOG_EVERY = 20
WARM = 10  # steps of a round before the watch starts


def ten_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """A loss in ten parts, as a detector has them."""
    loss = F.cross_entropy(logits, labels)
    return {f"term{index}": loss * (0.1 + 0.01 * index) for index in range(TERMS)}


class Smallest(nn.Module):
    """A network that costs next to nothing: the mean colour, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, image: Tensor) -> ClassificationOutputs:
        return ClassificationOutputs(self.linear(image.mean(dim=(2, 3))))


class Ours(ClassificationTask):
    """A task as one writes it: terms are returned, a metric is updated; the base does the rest."""

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__(
            backbone or "test_resnet",
            classes=[str(index) for index in range(10)],
            input=InputSpec(size=(size, size)),
            optim=OptimConfig(lr=1e-4),
        )
        if not backbone:
            self.network = Smallest()  # type: ignore[assignment]
        self.top1 = TermLog()

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        hits = (outputs.logits.argmax(dim=1) == target["labels"]).float().mean(dim=0, keepdim=True)
        self.top1.add({"top1": hits}, hits)
        return ten_terms(outputs.logits, target["labels"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.global_step % LOG_EVERY == 0:
            value = float(self.top1.flush()["loss"])
            self.trainer.logger.log_metrics({"train/top1": value}, self.trainer.global_step)


class Plain(LightningModule):
    """The same network under the Trainer, logging nothing."""

    def __init__(self, task: Ours) -> None:
        super().__init__()
        self.task = copy.deepcopy(task)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = ten_terms(self.task(batch["image"]).logits, batch["target"]["labels"])
        return torch.stack(list(terms.values())).sum()

    def configure_optimizers(self) -> Any:
        optimizer, schedule = optimisation(self.task, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class LogDict(Plain):
    """The peer: every step logs by Lightning's own means."""

    def __init__(self, task: Ours) -> None:
        super().__init__(task)
        self.accuracy = MulticlassAccuracy(10, average="micro", validate_args=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits, labels = self.task(batch["image"]).logits, batch["target"]["labels"]
        terms = ten_terms(logits, labels)
        self.accuracy(logits.detach(), labels)
        self.log_dict(terms)
        self.log("top1", self.accuracy)
        return torch.stack(list(terms.values())).sum()


def optimisation(task: Ours, steps: int) -> tuple[torch.optim.Optimizer, dict[str, Any]]:
    """The task's optimiser and schedule, for arms that do not ask the task."""
    optimizer = build_optimizer(parameter_groups(task.network, task.optim), task.optim)
    schedule = build_scheduler(optimizer, task.optim, steps)
    assert schedule is not None
    return optimizer, schedule


class Batches:
    """The same batch again and again, for every arm."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.steps):
            yield self.batch


class Watch(Callback):
    """Starts the clock once the first steps are done and stops it with the last."""

    def __init__(self, watch: Stopwatch, steps: int) -> None:
        self.watch, self.last = watch, steps - 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM:
            self.watch.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.last:
            self.watch.stop()


def bare(task: Ours, batches: Batches, watch: Stopwatch) -> Ours:
    """What a person writes who uses no framework."""
    task = copy.deepcopy(task).train()
    task.setup("fit")
    optimizer, schedule = optimisation(task, len(batches))
    for index, batch in enumerate(batches):
        if index == WARM:
            watch.start()
        terms = ten_terms(task(batch["image"]).logits, batch["target"]["labels"])
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule["scheduler"].step()
    watch.stop()
    return task


def fit(module: LightningModule, batches: Batches, watch: Stopwatch, run: str, ours: bool, log: bool) -> LightningModule:
    """One training under the Trainer."""
    callbacks: list[Callback] = [Watch(watch, len(batches))]
    if ours:
        callbacks += default_callbacks(module, run=run, config={})  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        callbacks=callbacks,
        logger=CSVLogger(run) if log else False,
        profiler=NoProfiler() if ours else None,
        log_every_n_steps=LOG_EVERY,
        enable_checkpointing=ours,
        enable_progress_bar=ours,
        enable_model_summary=False,
        default_root_dir=run,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the progress of ours
        trainer.fit(module, batches)
    return module


def arms(backbone: str, size: int, batch_size: int, steps: int, run: str) -> dict[str, timing.Arm]:
    """The four arms over one network, the smallest possible where no backbone is named."""
    torch.manual_seed(0)
    task = Ours(backbone, size)
    task.setup("fit")
    geometry = Geometry.plan(task.input, (size, size))
    batch: Batch = {
        "image": torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8),
        "target": {"labels": torch.randint(0, 10, (batch_size,))},
        "geometry": [geometry] * batch_size,
        "id": [str(index) for index in range(batch_size)],
    }
    batches = Batches(batch, steps)
    # Without geometry and ids, through which Lightning would look for tensors: the others are at their best.
    tensors = Batches({"image": batch["image"], "target": batch["target"]}, steps)
    return {
        "bare": lambda watch: bare(task, tensors, watch).network,
        "trainer": lambda watch: fit(Plain(task), tensors, watch, run, ours=False, log=False).task.network,
        "ours": lambda watch: fit(copy.deepcopy(task), batches, watch, run, ours=True, log=True).network,
        "log_dict": lambda watch: fit(LogDict(task), tensors, watch, run, ours=False, log=True).task.network,
    }


def assert_equal(sides: dict[str, timing.Arm]) -> None:
    """Every arm ends with the same weights."""
    states = {name: arm(Stopwatch("cpu")).state_dict() for name, arm in sides.items()}
    for name, state in states.items():
        for key, value in states["bare"].items():
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-6, msg=f"{name} learns something else in {key}")


def run(options: Options) -> Report:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    clock = options.clock or "cpu"
    report = Report(1, "training step over a bare loop, 10 scalars and a metric logged", clock)
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        steps = WARM + (20 if options.quick else 200)
        sides = arms("", 8, 32, steps, folder)
        assert_equal(sides)
        rounds = options.rounds or (2 if options.quick else 15)
        times = timing.measure(sides, rounds=rounds, clock=clock, attempts=1 if options.quick else 3, wanted=lambda t: [
            t.per_unit("ours", 1, minus="bare"), t.ratio("ours", "bare"), t.per_unit("log_dict", 1, minus="bare")])  # fmt: skip
        counted = (steps - WARM) * 1e-6
        report.add("bare step", times.per_unit("bare", counted), unit="us")
        report.add("the Trainer alone, over bare", times.per_unit("trainer", counted, minus="bare"), unit="us")
        report.add("ours over bare", times.per_unit("ours", counted, minus="bare"), Goal(450, "at most"), "us", times)
        report.add("log_dict over bare (the peer)", times.per_unit("log_dict", counted, minus="bare"), unit="us")
        report.add("the peer's overhead over ours", _overheads(times), Goal(6))
        if options.quick:
            return report
        steps = WARM + 20
        large = {name: arm for name, arm in arms("resnet18", 96, 8, steps, folder).items() if name in ("bare", "ours")}
        times = timing.measure(large, rounds=options.rounds or 21, clock=clock)
        report.add("a step of a real size, bare", times.per_unit("bare", (steps - WARM) * 1e-3), unit="ms")
        report.add("the same, ours over bare", times.ratio("ours", "bare"), Goal(1.02, "at most"), times=times)
    return report


def _overheads(times: timing.Times) -> timing.Quartiles:
    rows = zip(times.seconds["log_dict"], times.seconds["ours"], times.seconds["bare"], strict=True)
    return timing.Quartiles.of([(peer - bare_) / (ours - bare_) for peer, ours, bare_ in rows])


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
