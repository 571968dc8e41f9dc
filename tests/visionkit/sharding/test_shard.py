"""Losses and gradients of a sharded task are those of the unsharded one, for every task and every type of backbone."""

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
from visionkit.sharding import load_sharded, local
from visionkit.sharding.shard import ShardingOptions, shard_task
from visionkit.sharding.tensors import is_dtensor

CPU = torch.device("cpu")


def compared(rank: int, cases: list[tuple[str, str]], options: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Largest differences of loss and gradients from those of an unsharded task, relative to the largest values."""
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
    root = shard_task(task, init_device_mesh("cpu", (world,)), CPU, ShardingOptions(**options))
    sharded = all(is_dtensor(each) for each in task.parameters())
    torch.manual_seed(5)
    found = root(lambda: task.training_step(copy.deepcopy(data), 0))
    found.backward()
    largest = max(float(each.abs().max()) for each in wanted.values())
    worst = 0.0
    for key, each in task.named_parameters():
        grad = torch.zeros_like(wanted[key]) if each.grad is None else each.grad.full_tensor()  # type: ignore[attr-defined]
        worst = max(worst, float((grad - wanted[key]).abs().max()) / largest)
    count = sum(type(module).__name__.startswith("FSDP") for module in root.modules())
    return abs(float(found) - float(loss)) / max(1e-9, abs(float(loss))), worst, count, sharded


def check(world: int, cases: list[tuple[str, str]], **options: Any) -> None:
    for found in on_ranks(world, compared, cases, options):
        for case, (loss, gradient, count, sharded) in found.items():
            assert loss < 1e-6 and gradient < 1e-5, (case, loss, gradient)
            assert sharded and (count > 1 or case[1] == "test_resnet"), case  # whose layers have one block each


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
        for case, (loss, gradient, _, sharded) in found.items():
            assert loss < 1e-5 and gradient < 1e-4 and sharded, (case, loss, gradient)


def _bf16(rank: int) -> tuple[float, str]:
    torch.manual_seed(0)
    task = build("classification", "test_vit").train()
    data = batch(task, 4, seed=rank)
    whole = float(copy.deepcopy(task).training_step(copy.deepcopy(data), 0))
    root = shard_task(task, init_device_mesh("cpu", (2,)), CPU, ShardingOptions(gather_bf16=True))
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


def _loaded(rank: int) -> list[bool]:
    torch.manual_seed(0)
    task = build("classification", "test_resnet")
    state = {key: value.clone() for key, value in task.state_dict().items()}
    shard_task(task, init_device_mesh("cpu", (2,)), CPU, ShardingOptions())
    with torch.no_grad():
        for each in task.parameters():
            local(each.detach()).zero_()
    load_sharded(task, state)
    own = task.state_dict()
    full = {key: value.full_tensor() if is_dtensor(value) else value for key, value in own.items()}
    load_sharded(task, own)
    return [state.keys() == own.keys(), all(torch.equal(full[key], state[key]) for key in state)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_unsharded_weights_are_loaded_into_a_sharded_task() -> None:
    assert on_ranks(2, _loaded) == [[True, True]] * 2


def _batch_norm(rank: int) -> str:
    task = build("classification", "resnet18")
    with pytest.raises(UsageError) as caught:
        shard_task(task, init_device_mesh("cpu", (1,)), CPU, ShardingOptions(activation_checkpointing=True))
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_statistics_are_not_counted_twice() -> None:
    (said,) = on_ranks(1, _batch_norm)
    assert "has batch norm" in said and "leave it out" in said


def test_an_ordinary_tensor_is_its_own_shard() -> None:
    one = nn.Linear(2, 2)
    assert local(one.weight) is one.weight and not is_dtensor(one.weight)
    load_sharded(one, {"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    assert one.weight.sum() == 4
