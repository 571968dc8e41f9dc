"""Input sizes that a network can take, found by a pass without weights or memory on torch's meta device."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch

from visionkit.backbones.facts import backbone_facts
from visionkit.construction import WithoutInit
from visionkit.errors import UsageError

Size = tuple[int, int]

_UNITS = (4, 8, 14, 16, 28, 32, 64, 7, 112, 128, 224, 256)
"""What sides of inputs are multiples of: strides, patches, windows of patches."""


def check_image_size(name: str, size: Size, **arguments: Any) -> None:
    """Refuses a size at which the network fails.

    Args:
        name: Name, as in `Backbone`.
        size: Height and width of the images.
        **arguments: Others of `Backbone` that change what it computes.

    Raises:
        UsageError: The network cannot take the size; the nearest that it takes are named.
    """
    message = _refusal(name, (int(size[0]), int(size[1])), tuple(sorted(arguments.items())))
    if message:
        raise UsageError(message)


@functools.lru_cache(maxsize=256)
def _refusal(name: str, size: Size, arguments: tuple[tuple[str, Any], ...]) -> str:
    usual = backbone_facts(name).input_size
    trial = Trial(name, dict(arguments))
    if size == usual or trial.takes(size) or not trial.takes(usual):
        return ""  # where its own size fails too, it is not the size: who builds the network describes it
    near = nearest_sizes(trial, size)
    listed = " and ".join(f"[{height},{width}]" for height, width in near)
    nearest = "the nearest size that works is" if len(near) == 1 else "the nearest sizes that work are"
    advice = f"{nearest} {listed}" if near else f"it is made for [{usual[0]},{usual[1]}]"
    return f"backbone {name!r}: cannot take images of {size[0]}x{size[1]}; {advice} (model.input.size)"


class Trial:
    """Runs a network at sizes without weights: nothing is computed but shapes.

    Args:
        name: Name, as in `Backbone`.
        arguments: Arguments of `Backbone`.
    """

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        self.name, self.arguments = name, arguments
        self._fixed = backbone_facts(name).fixed_input_size
        self._body: Any = None
        self._known: dict[Size, bool] = {}

    def takes(self, size: Size) -> bool:
        """Whether a pass at that size comes to its end."""
        if size not in self._known:
            try:
                with torch.device("meta"), torch.no_grad(), WithoutInit():
                    self._pass(size)
                self._known[size] = True
            except Exception:  # networks fail with errors of every type
                self._known[size] = False
        return self._known[size]

    def _pass(self, size: Size) -> None:
        from visionkit.backbones.backbone import Backbone

        if self._body is None or self._fixed:
            self._body = Backbone(self.name, image_size=size, **self.arguments).eval()
        body: Backbone = self._body
        final, _ = body(torch.empty(1, len(body.mean), *size))
        if body.use_final:
            body.pool(final)


def nearest_sizes(trial: Trial, size: Size, count: int = 2) -> list[Size]:
    """Sizes that work near to one that does not, nearest first.

    Args:
        trial: Runs the network.
        size: Height and width that it cannot take.
        count: How many are required at most.
    """
    for unit in _UNITS:
        near = _multiples(size, unit)
        squares = sorted({(side, side) for each in near for side in each}, key=lambda each: _distance(each, size))
        for candidates in (near, squares):
            if trial.takes(candidates[0]):
                return [each for each in candidates if trial.takes(each)][:count]
    return []


def _multiples(size: Size, unit: int) -> list[Size]:
    """The sizes around one whose sides are multiples of a unit, nearest first."""
    heights, widths = ({max(side // unit, 1) * unit, -(-side // unit) * unit} for side in size)
    return sorted(itertools.product(heights, widths), key=lambda each: _distance(each, size))


def _distance(a: Size, b: Size) -> int:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])
