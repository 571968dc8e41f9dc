"""Sharded tensors (`DTensor`), of which every process holds a shard, beside ordinary ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_dtensor(value: Any) -> bool:
    """Whether a value is a `DTensor`; does not import the module that defines it."""
    return isinstance(value, Tensor) and hasattr(value, "device_mesh")


def local(value: Tensor) -> Tensor:
    """Returns this process's shard of a tensor, in the same memory, or an ordinary tensor as it is."""
    found: Tensor = value.to_local() if is_dtensor(value) else value  # type: ignore[attr-defined]
    return found


def shard_like(value: Tensor, pattern: Tensor) -> Tensor:
    """Shards an ordinary tensor as another one is; every process has to have all of it.

    Args:
        value: Tensor to shard. One that is sharded already is returned as it is.
        pattern: Tensor of the same shape. If it is not sharded, neither is the result.
    """
    if not is_dtensor(pattern) or is_dtensor(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    layout: Any = pattern
    value = value.to(layout.to_local().device).contiguous()  # others may have kept it channels-last
    return distribute_tensor(value, layout.device_mesh, layout.placements, src_data_rank=None)


@torch.no_grad()
def load_sharded(module: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Loads weights, sharded or not, into a module that is sharded or not.

    Args:
        module: Module to load into.
        state: Weights by name, as in `state_dict`.
        strict: Refuse missing and unknown names, as `load_state_dict` does.
    """
    own = module.state_dict()
    sharded = {name: shard_like(value, own[name]) if name in own else value for name, value in state.items()}
    module.load_state_dict(sharded, strict=strict)
