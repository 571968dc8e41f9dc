"""Low-rank adapters of a backbone: small matrices are trained, and what was pretrained stays as it is.

LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685): a weight W of a
linear layer is used as `W + alpha / rank * up @ down`. A convolution of k x k is adapted in the same way, as a matrix
of its filters: `down` is a convolution of k x k to `rank` channels and `up` one of 1 x 1.

An adapted layer keeps its weight under its own name, so public weights and checkpoints are read as ever; the matrices
lie beside it. Merged, `merged_state` of a checkpoint is the state of the ordinary network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from visionkit.errors import CheckpointError, UsageError

_DOWN, _UP, _SCALE = "adapter_down", "adapter_up", "adapter_scale"
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "all": (nn.Linear, nn.Conv2d),
    "linear": (nn.Linear,),
    "convolution": (nn.Conv2d,),
}


@dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapters of the backbone (LoRA).

    Attributes:
        rank: Width of the two matrices; a layer with a smaller side has adapters of that width.
        alpha: The change of a weight is multiplied by `alpha / rank`.
        layers: Which layers have adapters: `all`, `linear` or `convolution`. Depthwise convolutions have none: their
            few weights are no matrix that a rank would make smaller.
    """

    rank: int = 8
    alpha: float = 16.0
    layers: Literal["all", "linear", "convolution"] = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"model.adapters.rank {self.rank}: must be at least 1; leave adapters out to have none")
        if self.alpha <= 0 or not math.isfinite(self.alpha):
            raise UsageError(f"model.adapters.alpha {self.alpha:g}: must be above 0")
        if self.layers not in _KINDS:
            raise UsageError(f"model.adapters.layers {self.layers!r}: allowed are {', '.join(_KINDS)}")


class _Adapted:
    """What an adapted layer is beside its own class: its weight is read with the change added."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]

    @property
    def weight(self) -> Tensor:
        """The weight that the layer computes with."""
        own: Tensor = self._parameters["weight"]
        # In full precision, also in mixed precision: what is merged in the end is computed so too.
        with torch.autocast(own.device.type, enabled=False):
            return own + change(self._parameters[_DOWN], self._parameters[_UP], self._buffers[_SCALE], own.shape)


@functools.cache
def _adapted_class(kind: Any) -> Any:
    return type(f"Adapted{kind.__name__}", (_Adapted, kind), {"__module__": kind.__module__})


def change(down: Tensor, up: Tensor, scale: Tensor, shape: Any) -> Tensor:
    """What the adapters add to a weight.

    Args:
        down: (r, inputs).
        up: (outputs, r).
        scale: A number.
        shape: Shape of the weight.
    """
    return ((scale * up) @ down).view(shape)


def adapt(model: nn.Module, config: AdapterConfig, name: str, without: Collection[str] = ()) -> set[str]:
    """Gives the layers of a network adapters that change nothing yet.

    Args:
        model: A timm model with its weights; layers whose weights take no gradient are left as they are.
        config: Rank, scale and layers.
        name: Name of the network, for messages.
        without: Names of weights that are trained by themselves.

    Returns:
        Names of the adapters' parameters.

    Raises:
        UsageError: There is no such layer, or the rank is larger than what the widest of them can have.
    """
    layers: list[tuple[str, nn.Module, int]] = []
    for place, module in model.named_modules():
        weight = module._parameters.get("weight")
        if not isinstance(module, _KINDS[config.layers]) or weight is None or not weight.requires_grad:
            continue
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and weight.shape[1] == 1
        if not depthwise and f"{place}.weight" not in without:
            layers.append((place, module, min(weight.shape[0], weight[0].numel())))
    if not layers:
        other = "linear" if config.layers == "convolution" else "convolution"
        raise UsageError(
            f"model.adapters.layers {config.layers}: backbone {name!r} has no such layer that is trained; take "
            f"{other if config.layers != 'all' else 'another backbone'}"
        )
    largest = max(side for *_, side in layers)
    if config.rank > largest:
        raise UsageError(
            f"model.adapters.rank {config.rank}: larger than every layer of backbone {name!r}; allowed are 1 to "
            f"{largest}"
        )
    trained = set()
    for place, module, side in layers:
        weight = module._parameters["weight"]
        assert weight is not None
        rank = min(config.rank, side)
        down, up = weight.new_empty(rank, weight[0].numel()), weight.new_zeros(weight.shape[0], rank)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))  # as a linear layer begins
        module.register_parameter(_DOWN, nn.Parameter(down))
        module.register_parameter(_UP, nn.Parameter(up))
        module.register_buffer(_SCALE, weight.new_tensor(config.alpha / config.rank))
        kind: Any = type(module)
        module.__class__ = _adapted_class(kind)
        trained |= {f"{place}.{_DOWN}", f"{place}.{_UP}"}
    return trained


def is_adapter(name: str) -> bool:
    """Whether a tensor of a state belongs to an adapter."""
    return name.rpartition(".")[2] in (_DOWN, _UP, _SCALE)


def merged_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state whose adapters are added to the weights that they change: that of the ordinary network.

    Args:
        state: State of a network, under whatever prefixes; one without adapters is given back as it is.
    """
    merged = {name: value for name, value in state.items() if not is_adapter(name)}
    for name, down in state.items():
        place, _, last = name.rpartition(".")
        weight, up, scale = (f"{place}.{each}" for each in ("weight", _UP, _SCALE))
        if last == _DOWN and {weight, up, scale} <= state.keys():
            own, rows = state[weight], state[weight].shape[0] if state[weight].ndim else 0
            fits = own.ndim >= 2 and down.ndim == 2 and state[up].shape == (rows, len(down)) and len(down) <= rows
            if not fits or down.shape[1] * rows != own.numel() or state[scale].numel() != 1:
                raise CheckpointError(f"{place}: its adapter does not fit its weight {tuple(own.shape)}")
            merged[weight] = own + change(down.to(own), state[up].to(own), state[scale].to(own), own.shape)
    return merged
