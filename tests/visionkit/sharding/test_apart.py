"""Losses and gradients of a task in parts are those of the whole one, for every task and every type of backbone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from tests.contracts.cases import BACKBONES, CASES, batch, build
from tests.ranks import on_ranks
from visionkit.errors import UsageError
from visionkit.sharding import local, put_into
from visionkit.sharding.apart import Apart, take_apart
from visionkit.sharding.tensors import is_part

CPU = torch.device("cpu")


def compared(rank: int, cases: list[tuple[str, str]], options: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Largest differences of loss, gradients and outputs from those of a whole task, relative to the largest values."""
    return {case: _compared(*case, options) for case in cases}


def _compared(name: str, network: str, options: dict[str, Any]) -> tuple[float, float, int, bool]:
    torch.manual_seed(0)
    task = build(name, network).train()
    whole = copy.deepcopy(task)
    if task.parts() or any(each.dim() == 0 for each in task.parameters()):
        return 0.0, 0.0, 2, True  # refused, see `visionkit.sharding.refusals`
    rank, world = dist.get_rank(), dist.get_world_size()
    data = batch(task, 4, seed=rank)
    torch.manual_seed(5)
    loss = whole.training_step(copy.deepcopy(data), 0)
    loss.backward()
    wanted = {}
    for key, each in whole.named_parameters():
        wanted[key] = torch.zeros_like(each) if each.grad is None else each.grad
        dist.all_reduce(wanted[key])
        wanted[key] /= world
    root = take_apart(task, init_device_mesh("cpu", (world,)), CPU, Apart(**options))
    in_parts = all(is_part(each) for each in task.parameters())
    torch.manual_seed(5)
    found = root(lambda: task.training_step(copy.deepcopy(data), 0))
    found.backward()
    largest = max(float(each.abs().max()) for each in wanted.values())
    worst = 0.0
    for key, each in task.named_parameters():
        grad = torch.zeros_like(wanted[key]) if each.grad is None else each.grad.full_tensor()  # type: ignore[attr-defined]
        worst = max(worst, float((grad - wanted[key]).abs().max()) / largest)
    count = sum(type(module).__name__.startswith("FSDP") for module in root.modules())
    return abs(float(found) - float(loss)) / max(1e-9, abs(float(loss))), worst, count, in_parts


def check(world: int, cases: list[tuple[str, str]], **options: Any) -> None:
    for found in on_ranks(world, compared, cases, options):
        for case, (loss, gradient, count, in_parts) in found.items():
            assert loss < 1e-6 and gradient < 1e-5, (case, loss, gradient)
            assert in_parts and (count > 1 or case[1] == "test_resnet"), case  # whose layers have one block each


def test_two_processes_get_the_gradients_of_a_whole_task() -> None:
    check(2, [("classification", "test_vit")])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_types_of_backbones_do() -> None:
    check(2, [("classification", network) for network in BACKBONES])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("options", [{}, {"min_num_params": 10**9}, {"activation_checkpointing": True}], ids=str)
def test_every_task_gets_the_gradients_of_a_whole_one(options: dict[str, Any]) -> None:
    networks = {name: case.networks for name, case in CASES.items()}
    if "activation_checkpointing" in options:
        networks = {name: tuple(each for each in some if each == "test_vit") for name, some in networks.items()}
    cases = [(name, network) for name, some in networks.items() for network in some]
    for found in on_ranks(2, compared, cases, options):
        for case, (loss, gradient, _, in_parts) in found.items():
            assert loss < 1e-5 and gradient < 1e-4 and in_parts, (case, loss, gradient)


def _bf16(rank: int) -> tuple[float, str]:
    torch.manual_seed(0)
    task = build("classification", "test_vit").train()
    data = batch(task, 4, seed=rank)
    whole = float(copy.deepcopy(task).training_step(copy.deepcopy(data), 0))
    root = take_apart(task, init_device_mesh("cpu", (2,)), CPU, Apart(gather_bf16=True))
    seen = []
    block = task.network.backbone.model.blocks[0]  # type: ignore[union-attr, index]
    block.mlp.fc1.register_forward_pre_hook(lambda module, *given: seen.append(module.weight.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = root(lambda: task.training_step(data, 0))
    loss.backward()
    assert all(each.grad is None or each.grad.dtype == each.dtype == torch.float32 for each in task.parameters())
    return abs(float(loss) / whole - 1), str(seen[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_weights_are_gathered_in_bfloat16_and_kept_in_float32() -> None:
    for error, dtype in on_ranks(2, _bf16):
        assert 0 < error < 0.02 and dtype == "torch.bfloat16"


def _put(rank: int) -> list[bool]:
    torch.manual_seed(0)
    task = build("classification", "test_resnet")
    state = {key: value.clone() for key, value in task.state_dict().items()}
    take_apart(task, init_device_mesh("cpu", (2,)), CPU, Apart())
    with torch.no_grad():
        for each in task.parameters():
            local(each.detach()).zero_()
    put_into(task, state)
    own = task.state_dict()
    parts = {key: value.full_tensor() if is_part(value) else value for key, value in own.items()}
    put_into(task, own)
    return [state.keys() == own.keys(), all(torch.equal(parts[key], state[key]) for key in state)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whole_weights_are_put_into_parts() -> None:
    assert on_ranks(2, _put) == [[True, True]] * 2


def _batch_norm(rank: int) -> str:
    task = build("classification", "resnet18")
    with pytest.raises(UsageError) as caught:
        take_apart(task, init_device_mesh("cpu", (1,)), CPU, Apart(activation_checkpointing=True))
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_statistics_are_not_counted_twice() -> None:
    (said,) = on_ranks(1, _batch_norm)
    assert "has batch norm" in said and "leave it out" in said


def test_an_ordinary_tensor_is_its_own_part() -> None:
    one = nn.Linear(2, 2)
    assert local(one.weight) is one.weight and not is_part(one.weight)
    put_into(one, {"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    assert one.weight.sum() == 4
