"""How far a network sees, found by gradients, and the overlap of tiles that follows from it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SATURATE = frozenset({"clamp", "clip", "hardsigmoid", "hardswish", "hardtanh", "relu6", "sigmoid", "tanh"})
"""Functions that are flat beyond some value, also in place (`clamp_`)."""


def choose_overlap(tile: int, align: int, reach: int | None) -> tuple[int, int]:
    """Overlap and halo of tiles, from what the network sees.

    Args:
        tile: Side of a tile.
        align: The overlap is a multiple of it.
        reach: Receptive field of `receptive_field`; None for a network that sees everything.

    Returns:
        What makes tiles equal the whole, where that costs at most half a tile; otherwise a quarter of it, of which
        the outer quarter is not used, which is right but for what the network sees from further away.
    """
    if reach is not None:
        overlap = -(-2 * reach // align) * align
        if 2 * overlap <= tile:
            return overlap, reach
    overlap = -(-tile // 4 // align) * align
    return overlap, overlap // 4


def receptive_field(module: nn.Module, channels: int = 3, limit: int = 256, align: int = 1) -> int | None:
    """How many pixels to each side one prediction of a module depends on, found by gradients: the halo that it needs.

    Args:
        module: Takes (1, C, h, w) float, gives a map or a sequence of maps.
        channels: C.
        limit: Largest radius that is looked for.
        align: Sides of the input are multiples of it. Predictions at all places between two multiples are processed,
            since strided layers see further from some than from others.

    Returns:
        The radius in pixels, at most `align - 1` too large, or None where a prediction depends on all within the limit
        (global pooling, attention).
    """
    long = -(-(2 * limit + 1) // align) * align
    # Both directions are processed by themselves: a strip takes a small part of the memory of a square.
    short = min(long, max(2 * align, 64 // align * align))
    strips = ((1, (channels, long, short)), (2, (channels, short, long)))
    reaches = [_reach(module, shape, dim, align) for dim, shape in strips]
    found = [reach for reach in reaches if reach is not None]
    return max(found) if len(found) == len(reaches) else None


def _reach(module: nn.Module, shape: tuple[int, int, int], dim: int, align: int) -> int | None:
    """The same along one dimension of an image of that shape."""
    parameter = next(module.parameters(), None)
    training = module.training
    module.eval()
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    if parameter is not None:
        image = image.to(parameter)
    image.requires_grad_()
    try:
        with torch.enable_grad(), _Unsaturated():
            prediction = module(image)
            prediction = prediction if isinstance(prediction, Tensor) else prediction[0]
            across = 3 - dim
            middle = prediction.select(1 + across, prediction.shape[1 + across] // 2)
            step = shape[dim] / prediction.shape[1 + dim]
            number = max(1, round(align / step))
            begin = prediction.shape[1 + dim] // 2 - number // 2
            (gradient,) = torch.autograd.grad(middle.narrow(-1, begin, number).sum(), image)
    finally:
        module.train(training)
    touched = (gradient[0].abs().amax(dim=0) > 0).any(dim=2 - dim).nonzero().flatten()
    if not len(touched):
        return 0
    first, last = int(touched[0]), int(touched[-1])
    if first == 0 or last == shape[dim] - 1:
        return None
    centers = int(begin * step + step / 2), int((begin + number - 1) * step + step / 2)
    return max(centers[1] - first, last - centers[0])


class _Unsaturated(TorchFunctionMode):
    """Gives functions that saturate a slope of 1 everywhere; their values stay.

    A gate that is fully open here is not for another image, so what it was computed from is seen.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        x = args[0] if args else None
        if getattr(func, "__name__", "").rstrip("_") not in _SATURATE or not isinstance(x, Tensor):
            return func(*args, **kwargs)
        if not x.is_floating_point():
            return func(*args, **kwargs)
        return func(x.detach().clone(), *args[1:], **kwargs) + (x - x.detach())


def architecture_reach(module: nn.Module, channels: int = 3, align: int = 1, limit: int = 512) -> int | None:
    """What an architecture can see, whatever its weights have learned and wherever they are (in a graph, for example).

    It is `receptive_field` of a copy with weights that are all positive: no path through it is canceled or cut off.

    Args:
        module: See `receptive_field`; it is not changed.
        channels: See `receptive_field`.
        align: See `receptive_field`.
        limit: See `receptive_field`.
    """
    module = copy.deepcopy(module)
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                fan = max(1, parameter[:1].numel())
                owner._parameters[name] = nn.Parameter(torch.full(parameter.shape, 1.0 / fan))
    return receptive_field(module, channels, limit, align)
