"""Networks whose parts are trained against each other, each with an optimizer of its own: generator and discriminator.

The parts step together, from the same weights (simultaneous gradient descent, Mescheder et al., "The Numerics of GANs",
NeurIPS 2017, arXiv:1705.10461). So one backward pass serves all, every parameter gets the gradient of its own part's
losses alone, and whatever holds for one optimizer holds for several: exact resume, accumulation, mixed precision, a
moving average of the weights and several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from visionkit.errors import UsageError
from visionkit.optim import OptimConfig, build_optimizer, parameter_groups


class PartOptimizers(Optimizer):
    """Optimizers of several parts that look like one.

    Args:
        optimizers: One per part, by its name; their parameters differ.
        every: How often each one steps: every so many steps of the training.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], every: Mapping[str, int]) -> None:
        self.parts, self.every, self.count = dict(optimizers), dict(every), 0
        groups = [group for each in self.parts.values() for group in each.param_groups]
        super().__init__([{"params": group["params"]} for group in groups], {})
        self.param_groups = groups  # the parts' own, so that a schedule that changes a rate changes theirs

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps every part that is due."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.count += 1
        for name, each in self.parts.items():
            if self.count % self.every[name] == 0:
                each.step()
        return loss

    def clip(self, largest: float, kind: str) -> None:
        """Clips the gradients of every part by itself.

        Args:
            largest: Norm, or value, that is allowed.
            kind: `norm` or `value`.
        """
        for each in self.parts.values():
            parameters = [parameter for group in each.param_groups for parameter in group["params"]]
            if kind == "value":
                nn.utils.clip_grad_value_(parameters, largest)
            else:
                nn.utils.clip_grad_norm_(parameters, largest)

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts, and how many steps were made."""
        return {"count": self.count, "parts": {name: each.state_dict() for name, each in self.parts.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the states of all parts.

        Raises:
            UsageError: They are those of other parts.
        """
        if state_dict.get("parts", {}).keys() != self.parts.keys():
            raise UsageError(
                f"the checkpoint trains {', '.join(state_dict.get('parts', {})) or 'one part'}, and this task "
                f"{', '.join(self.parts)}"
            )
        self.count = state_dict["count"]
        for name, each in self.parts.items():
            each.load_state_dict(state_dict["parts"][name])
        # Loading replaces the groups of each optimizer.
        self.param_groups[:] = [group for each in self.parts.values() for group in each.param_groups]

    @property
    def state(self) -> Any:
        """What the parts remember of each parameter; Lightning moves it between devices."""
        return {parameter: known for each in self.parts.values() for parameter, known in each.state.items()}

    @state.setter
    def state(self, value: Any) -> None:
        """The base class begins with an empty one."""


def build_part_optimizers(
    network: nn.Module, configs: Mapping[str, OptimConfig], every: Mapping[str, int]
) -> PartOptimizers:
    """An optimizer for each part of a network.

    Args:
        network: Has the parts as attributes.
        configs: How each part is trained, by its name; together they hold all trainable parameters.
        every: Steps of the training for one of the part; 1 where a name is missing.

    Raises:
        UsageError: A part that the network does not have, or parameters that belong to none.
    """
    optimizers: dict[str, Optimizer] = {}
    held: set[int] = set()
    for name, config in configs.items():
        part = getattr(network, name, None)
        if not isinstance(part, nn.Module):
            raise UsageError(f"optimizers: the network has no part {name!r}")
        groups = [{**group, "name": f"{name}.{group['name']}"} for group in parameter_groups(part, config)]
        optimizers[name] = build_optimizer(groups, config)
        held |= {id(parameter) for parameter in part.parameters()}
    left = [name for name, each in network.named_parameters() if each.requires_grad and id(each) not in held]
    if left:
        raise UsageError(f"optimizers: {left[0]} belongs to none of the parts {', '.join(configs)}")
    return PartOptimizers(optimizers, {name: max(1, every.get(name, 1)) for name in configs})


@contextmanager
def only(network: nn.Module, part: str, parts: Mapping[str, Any]) -> Iterator[None]:
    """Within it, losses give gradients to one part alone; the others are as constants that gradients pass through.

    Args:
        network: Has the parts as attributes.
        part: The one that is trained.
        parts: The names of all.
    """
    changed: list[Tensor] = []
    for name in parts:
        if name != part:
            changed += [each for each in getattr(network, name).parameters() if each.requires_grad]
    for each in changed:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in changed:
            each.requires_grad_(True)
