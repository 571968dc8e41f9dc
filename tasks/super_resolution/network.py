"""The networks by name, and what is the same for all: bicubic beside them and the way from luma back to colour."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from tasks.super_resolution.attention import SwinIR
from tasks.super_resolution.bicubic import Bicubic
from tasks.super_resolution.body import Body
from tasks.super_resolution.colour import LUMA_RANGE, luma
from tasks.super_resolution.convolutional import ESPCN, FSRCNN, SRCNN, VDSR
from tasks.super_resolution.residual import EDSR, RCAN, Compact
from visionkit.errors import UsageError, suggest

NETWORKS: dict[str, Callable[..., Body]] = {
    "srcnn": SRCNN,
    "srcnn_955": partial(SRCNN, kernels=(9, 5, 5)),
    "espcn": ESPCN,
    "fsrcnn": FSRCNN,
    "vdsr": VDSR,
    "edsr_baseline": EDSR,
    "edsr": partial(EDSR, width=256, blocks=32, residual_scale=0.1),
    "rcan": RCAN,
    "swinir_light": SwinIR,
    "compact": Compact,
}
"""Each takes the scale and its own keyword arguments."""


class SuperResolutionOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        high_res: (B, 3, scale * h, scale * w) float RGB, about [0, 1], not clipped.
    """

    high_res: Tensor


class SuperResolutionNetwork(nn.Module):
    """A body with bicubic beside it.

    A body that learns luma gets it from the picture, and what it changes of it is added to red, green and blue alike,
    which leaves the colours as bicubic gives them.

    Args:
        body: What is learnt.
        scale: Factor.
    """

    def __init__(self, body: Body, scale: int) -> None:
        super().__init__()
        self.body = body
        self.bicubic = Bicubic(scale)

    def forward(self, image: Tensor) -> SuperResolutionOutputs:
        """(B, 3, h, w) float RGB in [0, 1] to the picture `scale` times as large."""
        body = self.body
        if body.colour == "rgb" and body.space == "low" and not body.skip:
            return SuperResolutionOutputs(body(image).float())
        enlarged = self.bicubic(image)
        if body.colour == "rgb":
            out = body(enlarged if body.space == "high" else image).float()
            return SuperResolutionOutputs(enlarged + out if body.skip else out)
        before = luma(enlarged)
        out = body(before if body.space == "high" else luma(image)).float()
        change = out if body.skip else out - before
        return SuperResolutionOutputs(enlarged + change * (255.0 / LUMA_RANGE))


def build_network(name: str, scale: int, arguments: Mapping[str, Any] | None = None) -> SuperResolutionNetwork:
    """The network of that name, with random weights.

    Args:
        name: A key of `NETWORKS`.
        scale: Factor.
        arguments: Of the network, such as `width` and `blocks`.

    Raises:
        UsageError: Unknown name or argument; the nearest is offered.
    """
    if name not in NETWORKS:
        raise UsageError(f"model.network {name!r}: allowed are {', '.join(NETWORKS)}{suggest(name, NETWORKS)}")
    make, given = NETWORKS[name], dict(arguments or {})
    known = [key for key in inspect.signature(make).parameters if key != "scale"]
    for key in given:
        if key not in known:
            raise UsageError(
                f"model.network_args.{key}: unknown to {name}; allowed are {', '.join(known)}{suggest(key, known)}"
            )
    try:
        body = make(scale, **given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"model.network_args {given}: {name} cannot be built of them ({error})") from error
    return SuperResolutionNetwork(body, scale)


def thin_network(name: str, scale: int, arguments: Mapping[str, Any] | None = None) -> SuperResolutionNetwork:
    """The same network with as few channels as it can have: it looks as far, and is quick to look at."""
    given = dict(arguments or {})
    known = inspect.signature(NETWORKS[name]).parameters
    if "width" in known:
        heads = known["heads"].default if "heads" in known else 4
        given["width"] = given.get("heads", heads)
        if "reduction" in known:
            given["reduction"] = 1
    return build_network(name, scale, given)
