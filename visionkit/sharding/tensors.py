"""Tensors of which every process holds a part (`DTensor`), beside ordinary ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_part(value: Any) -> bool:
    """Whether a tensor lies in parts on several processes; asked without importing what makes such."""
    return isinstance(value, Tensor) and hasattr(value, "device_mesh")


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor, in the same memory; an ordinary tensor is its own."""
    found: Tensor = value.to_local() if is_part(value) else value  # type: ignore[attr-defined]
    return found


def parted_like(value: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor in parts as another one lies; every process has to have the whole.

    Args:
        value: Whole, or in parts already.
        pattern: Of the same shape.
    """
    if not is_part(pattern) or is_part(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    layout: Any = pattern
    value = value.to(layout.to_local().device).contiguous()  # others may have kept it channels-last
    return distribute_tensor(value, layout.device_mesh, layout.placements, src_data_rank=None)


@torch.no_grad()
def put_into(module: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Loads weights into a module, whether it lies in parts or not, from whole tensors or from parts.

    Args:
        module: The module.
        state: Its `state_dict`.
        strict: All names have to be there, and no others.
    """
    own = module.state_dict()
    parted = {name: parted_like(value, own[name]) if name in own else value for name, value in state.items()}
    module.load_state_dict(parted, strict=strict)
