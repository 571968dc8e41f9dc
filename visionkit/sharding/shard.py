"""Shards a task, so that each process keeps a shard of every weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import nn

from visionkit.errors import UsageError
from visionkit.sharding.blocks import blocks_of, has_batch_norm, recompute


@dataclass(frozen=True)
class ShardingOptions:
    """States how a task is sharded; see `FSDP2Strategy`.

    Attributes:
        activation_checkpointing: Compute the activations of the blocks again in the backward pass.
        cpu_offload: Keep the shards in the memory of the CPU.
        min_num_params: Blocks with fewer parameters are gathered with the rest.
        gather_bf16: Gather the weights of blocks without batch norm in bfloat16.
    """

    activation_checkpointing: bool = False
    cpu_offload: bool = False
    min_num_params: int = 0
    gather_bf16: bool = False


class Steps(nn.Module):
    """Runs what it is given, a step of the task, with the weights gathered that belong to no block.

    Args:
        task: Task whose steps are run; its name and its attributes stay as they are.
    """

    def __init__(self, task: LightningModule) -> None:
        super().__init__()
        self.task = task

    def forward(self, step: Callable[[], Any]) -> Any:
        return step()


def shard_task(task: LightningModule, mesh: Any, device: torch.device, options: ShardingOptions) -> Any:
    """Shards the blocks of the backbone one by one, and everything else of the task together.

    Args:
        task: Task to shard in place: its parameters become `DTensor`s.
        mesh: `DeviceMesh` of one dimension over the processes.
        device: Device of this process.
        options: Which blocks are recomputed, offloaded, gathered alone and gathered in bfloat16.

    Returns:
        The outermost sharded module, through which the steps of the task are run.

    Raises:
        UsageError: Activation checkpointing is asked for, and the blocks have batch norm or there are none.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    on_gpu = device.type == "cuda"
    if not options.cpu_offload:
        task.to(device)
    for parameter in task.parameters():
        parameter.data = parameter.data.contiguous()  # channels-last weights cannot be sharded along their first axis
    offloading = options.cpu_offload and on_gpu  # on a CPU everything is there already
    common: dict[str, Any] = {"mesh": mesh, "offload_policy": CPUOffloadPolicy() if offloading else OffloadPolicy()}
    bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    network: Any = task.network
    blocks = blocks_of(network, options.min_num_params)
    if options.activation_checkpointing and not blocks:
        raise UsageError(
            "trainer.strategy.activation_checkpointing: the network has no blocks of trainer.strategy.min_num_params "
            f"{options.min_num_params:,} parameters or more; lower that, or leave it out"
        )
    for block in blocks:
        norms = has_batch_norm(block)
        if options.activation_checkpointing:
            if norms:
                raise UsageError(
                    f"trainer.strategy.activation_checkpointing: {type(block).__name__} has batch norm, whose "
                    "statistics a second pass would count twice; leave it out, or take a backbone without batch norm"
                )
            recompute(block)
        fully_shard(block, mp_policy=bf16 if options.gather_bf16 and not norms else MixedPrecisionPolicy(), **common)
    root = Steps(task)
    fully_shard(root, reshard_after_forward=False, **common)
    if offloading:
        _move_rest(task, device)
    return root


def _move_rest(task: LightningModule, device: torch.device) -> None:
    """Moves to the device what is no weight: buffers and metrics."""
    for module in task.modules():
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = value.to(device)
    for child in task.children():
        if not any(True for _ in child.parameters()):
            child.to(device)
    task._device = device  # as `Module.to` would set it
