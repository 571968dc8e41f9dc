"""Row 1: what a training step costs beyond a bare PyTorch loop, with ten scalars and a metric logged.

Four arms run the same network, optimizer, schedule and batches:

- `bare`: forward, ten loss terms, backward, optimizer, schedule; logs nothing.
- `trainer`: Lightning's Trainer with a module that logs nothing and no callbacks: the limit.
- `ours`: a task with ten terms and an accuracy, with all callbacks that `visionkit fit` brings and its logger.
- `log_dict`: the peer, Lightning as its documentation has it: `self.log_dict` of ten scalars and `self.log` of a
  metric.

The first part has a network so small that the overhead is most of the step; the second a step of 25 ms or more.
`step_by_task.py` has `bare` and `ours` of tasks with losses of their own.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from benchmarks import step_by_task, timing, training
from benchmarks.timing import Goal, Options, Report, Stopwatch
from benchmarks.training import LOG_EVERY, WARM, Batches
from tasks.classification import ClassificationTask
from tasks.classification.network import ClassificationOutputs
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.term_log import TermLog
from visionkit.types import Batch

TERMS = 10


def ten_terms(outputs: ClassificationOutputs, target: Any) -> dict[str, Tensor]:
    """A loss in ten parts, as a detector has them."""
    loss = F.cross_entropy(outputs.logits, target["labels"])
    return {f"term{index}": loss * (0.1 + 0.01 * index) for index in range(TERMS)}


class Smallest(nn.Module):
    """A network that costs hardly anything: the mean color, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, image: Tensor) -> ClassificationOutputs:
        return ClassificationOutputs(self.linear(image.mean(dim=(2, 3))))


class Ours(ClassificationTask):
    """A task as one writes it: terms are returned, a metric is summed on the device; the base does the rest."""

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__(
            backbone or "test_resnet",
            classes=[str(index) for index in range(10)],
            input=InputSpec(size=(size, size)),
            optim=OptimConfig(lr=1e-4),
        )
        if not backbone:
            self.network = Smallest()
        self.top1 = TermLog()

    def losses(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        hits = (outputs.logits.argmax(dim=1) == target["labels"]).float().mean(dim=0, keepdim=True)
        self.top1.add({"top1": hits}, hits)
        return ten_terms(outputs, target)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.trainer.global_step % LOG_EVERY == 0:
            value = float(self.top1.flush()["loss"])
            assert self.trainer.logger is not None
            self.trainer.logger.log_metrics({"train/top1": value}, self.trainer.global_step)


class Plain(LightningModule):
    """The same network under the Trainer, logging nothing."""

    def __init__(self, task: Ours) -> None:
        super().__init__()
        self.task = copy.deepcopy(task)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return torch.stack(list(ten_terms(self.task.run(batch), batch["target"]).values())).sum()

    def configure_optimizers(self) -> Any:
        optimizer, schedule = training.optimization(self.task, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class LogDict(Plain):
    """The peer: every step logs by Lightning's own means."""

    def __init__(self, task: Ours) -> None:
        super().__init__(task)
        self.accuracy = MulticlassAccuracy(10, average="micro", validate_args=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        outputs = self.task.run(batch)
        terms = ten_terms(outputs, batch["target"])
        self.accuracy(outputs.logits.detach(), batch["target"]["labels"])
        self.log_dict(terms)
        self.log("top1", self.accuracy)
        return torch.stack(list(terms.values())).sum()


def arms(backbone: str, size: int, batch_size: int, steps: int, run: str) -> dict[str, timing.Arm]:
    """The four arms over one network, the smallest possible where no backbone is named."""
    torch.manual_seed(0)
    task = Ours(backbone, size)
    task.setup("fit")
    batch = training.random_batch(task, batch_size)
    batches, tensors = Batches(batch, steps), Batches(training.tensors_of(batch), steps)

    def bare(watch: Stopwatch) -> nn.Module:
        own = training.ready(task)
        training.bare(own, tensors, watch, ten_terms)
        return own.network

    def plain(watch: Stopwatch) -> nn.Module:
        module = Plain(task)
        training.fit(module, tensors, watch, run, ours=False, log=False)
        return module.task.network

    def ours(watch: Stopwatch) -> nn.Module:
        module = copy.deepcopy(task)
        training.fit(module, batches, watch, run, ours=True, log=True)
        return module.network

    def log_dict(watch: Stopwatch) -> nn.Module:
        module = LogDict(task)
        training.fit(module, tensors, watch, run, ours=False, log=True)
        return module.task.network

    return {"bare": bare, "trainer": plain, "ours": ours, "log_dict": log_dict}


def assert_equal(sides: Mapping[str, timing.Arm]) -> None:
    """Every arm ends with the same weights."""
    states = {name: arm(Stopwatch("cpu")).state_dict() for name, arm in sides.items()}
    for name, state in states.items():
        for key, value in states["bare"].items():
            message = f"{name} ends with other values in {key}"
            torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-6, msg=message)


def run(options: Options) -> Report:
    training.hush()
    clock = options.clock or "cpu"
    report = Report(1, "training step over a bare loop, 10 scalars and a metric logged", clock)
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        counted = 20 if options.quick else 200
        sides = arms("", 8, 32, WARM + counted, folder)
        assert_equal(sides)
        times = timing.measure(
            sides,
            rounds=options.rounds or (2 if options.quick else 15),
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.per_unit("ours", 1, minus="bare"), _overheads(t)],
        )
        unit = counted * 1e-6
        report.add("bare step", times.per_unit("bare", unit), unit="us")
        report.add("the Trainer alone, over bare (the limit)", times.per_unit("trainer", unit, minus="bare"), unit="us")
        report.add("ours over bare", times.per_unit("ours", unit, minus="bare"), Goal(450, "at most"), "us", times)
        report.add("log_dict over bare (the peer)", times.per_unit("log_dict", unit, minus="bare"), unit="us")
        report.add("the peer's overhead over ours", _overheads(times), Goal(6), times=times)
        if options.quick:
            return report
        large = arms("resnet18", 48, 8, WARM + 20, folder)
        times = timing.measure(
            {name: large[name] for name in ("bare", "ours")}, rounds=options.rounds or 21, clock=clock
        )
        report.add("a step of a real size, bare", times.per_unit("bare", 20e-3), unit="ms")
        report.add("the same, ours over bare", times.ratio("ours", "bare"), Goal(1.02, "at most"), times=times)
        step_by_task.add(report, options, folder)
    return report


def _overheads(times: timing.Times) -> timing.Quartiles:
    rows = zip(times.seconds["log_dict"], times.seconds["ours"], times.seconds["bare"], strict=True)
    return timing.Quartiles.of([(peer - bare) / (ours - bare) for peer, ours, bare in rows])


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
