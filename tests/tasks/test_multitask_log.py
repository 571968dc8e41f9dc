"""What several heads have learned in numbers: losses, each a mean over its own steps, and one score of all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torchmetrics import MeanMetric, MetricCollection

from tasks.multitask.loss import HeadLog
from tasks.multitask.metrics import JointMetrics


def test_each_head_counts_the_steps_in_which_it_had_a_loss():
    log = HeadLog()
    log.add({"a/box": 0, "a/class": 0, "b/l1": 0}, torch.tensor([1.0, 2.0, 5.0]))
    log.add({"a/box": 0, "a/class": 0}, torch.tensor([3.0, 4.0]))
    wanted = {"loss": 10.0, "a/loss": 5.0, "a/loss_box": 2.0, "a/loss_class": 3.0, "b/loss": 5.0}
    assert log.running() == wanted
    assert {name: float(value) for name, value in log.flush().items()} == wanted
    assert log.flush() == {} and log.running() == wanted, "the running means are those of the epoch"
    log.begin_epoch()
    assert log.running() == {}


def test_images_weigh_where_they_are_counted():
    log = HeadLog()
    log.add({"a/l1": 0, "b/l1": 0}, torch.tensor([1.0, 1.0]), weights={"a": 3, "b": 1})
    log.add({"a/l1": 0}, torch.tensor([5.0]), weights={"a": 1})
    assert float(log.flush()["a/loss"]) == 2.0


def test_a_training_step_waits_for_no_other_process(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(
        torch.distributed, "all_gather_object", lambda out, own: asked.append(own) or out.__setitem__(0, own)
    )
    log = HeadLog()
    log.add({"a/l1": 0}, torch.tensor([1.0]))
    assert float(log.flush()["loss"]) == 1.0 and asked == []
    log.add({"a/l1": 0}, torch.tensor([2.0]))
    assert float(log.flush(reduce=True)["loss"]) == 2.0 and len(asked) == 1


def test_steps_that_were_tried_are_taken_back():
    """As before a training for a time, which measures its pace on real batches."""
    from visionkit.callbacks.trial_steps import _put_back, _state

    module = torch.nn.Module()
    module.log = HeadLog()
    module.log.add({"a/l1": 0}, torch.tensor([1.0]))
    before = _state(module)
    module.log.add({"a/l1": 0}, torch.tensor([9.0]))
    module.log.flush()
    _put_back(module, before)
    assert float(module.log.flush()["loss"]) == 1.0


def test_the_score_is_a_mean_in_which_more_is_better():
    heads = {
        "a": SimpleNamespace(metrics=MetricCollection({"top1": MeanMetric()}), monitor=("val/top1", "max")),
        "b": SimpleNamespace(metrics=MetricCollection({"abs_rel": MeanMetric()}), monitor=("val/abs_rel", "min")),
    }
    metrics = JointMetrics(heads)
    for name, value in (("a", 0.5), ("b", 3.0)):
        heads[name].metrics.update(torch.tensor(value))
        metrics.seen(name)
    assert {name: float(value) for name, value in metrics.compute().items()} == {
        "a/top1": 0.5, "b/abs_rel": 3.0, "score": (0.5 + 1 / 4) / 2,
    }  # fmt: skip
    metrics.reset()
    assert metrics.compute() == {} and not heads["a"].metrics["top1"].update_called, "the heads begin again too"


def test_what_another_process_has_measured_is_computed_here_too(monkeypatch: pytest.MonkeyPatch):
    """Every process must ask for the same heads in the same order, or they wait for each other for ever."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)

    def gather(out: list[list[str]], own: list[str]) -> None:
        out[:] = [own, ["a"]]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    asked = []

    def head(name: str) -> SimpleNamespace:
        compute = lambda: asked.append(name) or {"top1": torch.tensor(0.25)}  # noqa: E731
        return SimpleNamespace(metrics=SimpleNamespace(compute=compute), monitor=("val/top1", "max"))

    metrics = JointMetrics({name: head(name) for name in ("a", "b", "c")})
    metrics.seen("b")
    assert {name: float(value) for name, value in metrics.compute().items()} == {
        "a/top1": 0.25, "b/top1": 0.25, "score": 0.25,
    }  # fmt: skip
    assert asked == ["a", "b"], "nobody measured the third"
