"""Parts of a network that are trained against each other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from visionkit.errors import UsageError
from visionkit.optim import OptimConfig, build_scheduler
from visionkit.part_optimizers import build_part_optimizers, only

CONFIGS = {
    "generator": OptimConfig(name="adamw", lr=0.01, weight_decay=0.0, warmup=0),
    "discriminator": OptimConfig(name="sgd", lr=0.1, weight_decay=0.0, warmup=0, schedule="constant"),
}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(2, 2), nn.Linear(2, 1)


def losses(network: Pair, x: torch.Tensor) -> torch.Tensor:
    with only(network, "discriminator", CONFIGS):
        wrong = network.discriminator(network.generator(x)).square().mean()
    with only(network, "generator", CONFIGS):
        right = (1 - network.discriminator(network.generator(x))).square().mean()
    return wrong + right


def test_each_part_gets_the_gradients_of_its_own_losses():
    network, x = Pair(), torch.randn(8, 2)
    losses(network, x).backward()
    alone = Pair()
    alone.discriminator(alone.generator(x).detach()).square().mean().backward()
    assert torch.allclose(network.discriminator.weight.grad, alone.discriminator.weight.grad)
    alone.zero_grad()
    (1 - alone.discriminator(alone.generator(x))).square().mean().backward()
    assert torch.allclose(network.generator.weight.grad, alone.generator.weight.grad)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_parts_step_as_their_own_optimizers_would_and_as_often_as_they_are_reported():
    network, other, x = Pair(), Pair(), torch.randn(8, 2)
    together = build_part_optimizers(network, CONFIGS, {"generator": 2})
    alone = {
        "generator": torch.optim.AdamW(other.generator.parameters(), lr=0.01, weight_decay=0.0),
        "discriminator": torch.optim.SGD(other.discriminator.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    }
    for step in range(1, 5):
        for each in (network, other):
            each.zero_grad()
            losses(each, x).backward()
        together.step()
        alone["discriminator"].step()
        if step % 2 == 0:
            alone["generator"].step()
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_state_that_was_stored_goes_on_equally():
    network, x = Pair(), torch.randn(8, 2)
    optimizer = build_part_optimizers(network, CONFIGS, {"generator": 3})

    def step(network, optimizer):
        network.zero_grad()
        losses(network, x).backward()
        optimizer.step()

    for _ in range(4):
        step(network, optimizer)
    again = copy.deepcopy(network)
    restored = build_part_optimizers(again, CONFIGS, {"generator": 3})
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert len(restored.state) == len(optimizer.state) == 4
    for _ in range(3):
        step(network, optimizer)
        step(again, restored)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_schedule_changes_the_rates_of_the_parts():
    network = Pair()
    optimizer = build_part_optimizers(network, CONFIGS, {})
    schedule = build_scheduler(optimizer, CONFIGS["generator"], 10, others=CONFIGS)
    assert schedule is not None
    for _ in range(10):
        optimizer.step()
        schedule["scheduler"].step()
    assert optimizer.parts["generator"].param_groups[0]["lr"] == pytest.approx(0)
    assert optimizer.parts["discriminator"].param_groups[0]["lr"] == pytest.approx(0.1)


def test_gradients_are_clipped_per_part():
    network = Pair()
    optimizer = build_part_optimizers(network, CONFIGS, {})
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, 100.0 if number < 2 else 0.001)
    optimizer.clip(1.0, "norm")
    assert torch.linalg.vector_norm(network.generator.weight.grad) < 1
    assert network.discriminator.weight.grad.unique().tolist() == pytest.approx([0.001])
    optimizer.clip(0.0005, "value")
    assert network.discriminator.weight.grad.max() <= 0.0005


def test_parts_that_do_not_fit_the_network_are_refused():
    with pytest.raises(UsageError, match="no part 'critic'"):
        build_part_optimizers(Pair(), {"critic": OptimConfig()}, {})
    with pytest.raises(UsageError, match=r"discriminator\.weight belongs to none of the parts generator"):
        build_part_optimizers(Pair(), {"generator": OptimConfig()}, {})
    optimizer = build_part_optimizers(Pair(), CONFIGS, {})
    with pytest.raises(UsageError, match="the checkpoint trains one part"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
