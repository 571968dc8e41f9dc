"""Which modules of a network are gathered one by one: the repeated blocks of its backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._BatchNorm,)


def blocks_of(network: nn.Module, min_num_params: int = 0) -> list[nn.Module]:
    """The innermost repeated blocks of the backbone: transformer layers, bottlenecks, ConvNeXt blocks.

    A block is called by its parent as a module, and none of its weights belongs to anything outside of it. Whatever is
    in no block, such as the stem, norms and heads, is gathered together.

    Args:
        network: Network of a task. One without a `backbone` is searched as a whole.
        min_num_params: Blocks with fewer parameters are left to the rest.
    """
    body = getattr(network, "backbone", None)
    users = Counter(id(each) for _, each in network.named_parameters(remove_duplicate=False))
    found = []
    for block in _repeated(body if isinstance(body, nn.Module) else network):
        parameters = list(block.parameters())
        inside = Counter(id(each) for _, each in block.named_parameters(remove_duplicate=False))
        alone = all(users[key] == count for key, count in inside.items())
        if alone and sum(each.numel() for each in parameters) >= max(1, min_num_params):
            found.append(block)
    return found


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    """Elements of lists whose type occurs there at least twice, and that hold no such list themselves."""
    for child in module.children():
        if isinstance(child, _CONTAINERS):
            kinds = Counter(type(each) for each in child.children())
            for each in child.children():
                inner = list(_repeated(each))
                if inner:
                    yield from inner
                elif kinds[type(each)] > 1 and not isinstance(each, _CONTAINERS) and list(each.children()):
                    yield each
        else:
            yield from _repeated(child)


def has_batch_norm(block: nn.Module) -> bool:
    """Whether a block keeps statistics of its batches, which a second pass would count twice."""
    return any(isinstance(each, _NORMS) and each.track_running_stats for each in block.modules())


def recompute(block: nn.Module) -> None:
    """Has a block compute its activations again in the backward pass in place of keeping them."""
    run = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not block.training:
            return run(*args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, **kwargs)

    block.forward = forward
