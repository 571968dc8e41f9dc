"""Schedules by hand, optimizers and schedules by name."""

import math

import pytest
import torch

from visionkit.errors import UsageError
from visionkit.optim import OptimConfig, build_optimizer, build_scheduler


def rates(config, steps=10):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = build_optimizer([{"params": [weight], "lr": config.lr, "weight_decay": 0.0}], config)
    built = build_scheduler(optimizer, config, steps)
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if built:
            built["scheduler"].step()
    return out


def test_cosine_with_warm_up_by_hand():
    got = rates(OptimConfig(lr=1.0, warmup=2, schedule="cosine"))
    expected = [1 / 3, 2 / 3] + [0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert got == pytest.approx(expected)


def test_linear_ends_at_its_final_scale():
    got = rates(OptimConfig(lr=2.0, warmup=0, schedule="linear", final_lr_scale=0.1))
    assert got[0] == pytest.approx(2.0)
    assert got[-1] == pytest.approx(2.0 * (0.1 + 0.9 * 0.1))


def test_warm_up_as_a_fraction_of_all_steps():
    assert rates(OptimConfig(lr=1.0, warmup=0.5, schedule="constant"))[4:6] == pytest.approx([5 / 6, 1.0])


def test_constant_without_warm_up_needs_no_schedule():
    assert rates(OptimConfig(lr=0.5, warmup=0, schedule="constant")) == [0.5] * 10


def test_schedules_of_torch_and_timm_by_name():
    got = rates(OptimConfig(lr=1.0, schedule="torch:StepLR", schedule_args={"step_size": 2, "gamma": 0.5}))
    assert got[:4] == [1.0, 1.0, 0.5, 0.5]
    optimizer = build_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))]}], OptimConfig())
    timm = build_scheduler(optimizer, OptimConfig(schedule="timm:cosine", schedule_args={"num_epochs": 5}), 100)
    assert type(timm["scheduler"]).__name__ == "CosineLRScheduler"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0}, "optim.lr"),
        ({"layer_decay": 1.5}, "layer_decay"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_bad_settings_are_refused_when_given(arguments, message):
    with pytest.raises(UsageError, match=message):
        OptimConfig(**arguments)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'adamw"):
        rates(OptimConfig(name="adamww"))
    with pytest.raises(UsageError, match="no such class; did you mean 'StepLR'"):
        rates(OptimConfig(schedule="torch:StepLRR"))


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "lion", "adafactor"])
def test_optimizers_of_timm_lower_a_loss(name):
    weight = torch.nn.Parameter(torch.full((3, 3), 2.0))
    config = OptimConfig(name=name, lr=0.05, weight_decay=0.0)
    optimizer = build_optimizer([{"params": [weight], "lr": config.lr, "weight_decay": 0.0}], config)
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.square().sum() < 36
