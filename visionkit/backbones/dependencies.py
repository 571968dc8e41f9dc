"""Which layers of a network some of its maps are computed from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


def needed_for(model: nn.Module, indices: list[int], shape: tuple[int, int, int]) -> set[Tensor]:
    """The parameters that some maps of a timm model are computed from.

    Args:
        model: A timm model.
        indices: Numbers of the maps, as its `forward_intermediates` counts them.
        shape: Channels, height and width of an image that it takes.
    """
    training = model.training
    model.eval()
    with torch.enable_grad():
        image = next(model.parameters()).new_zeros(1, *shape)
        maps = cast(Any, model).forward_intermediates(image, indices=indices, intermediates_only=True)
        found = _reached(maps)
    model.train(training)
    return found


def freeze(model: nn.Module, parameters: Collection[Tensor]) -> list[nn.Module]:
    """Stops the training of some parameters.

    Returns:
        The layers that hold no others, however deep, whose statistics have to be kept too.
    """
    for parameter in parameters:
        parameter.requires_grad_(False)
    owned = ((module, list(module.parameters())) for module in model.modules())
    return [module for module, own in owned if own and all(each in parameters for each in own)]


def _reached(maps: Sequence[Tensor]) -> set[Tensor]:
    """The leaves that the maps were computed from, found in the graph without a backward pass."""
    found: set[Tensor] = set()
    waiting = [map_.grad_fn for map_ in maps if map_.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(variable)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found
