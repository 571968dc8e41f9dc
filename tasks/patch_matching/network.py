"""What the networks of patch matching are made of: layers as the paper writes them, and comparisons of descriptors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.errors import UsageError

POOL = "P"
"""A max pooling of 2x2 with stride 2, P(2, 2)."""

Layer = tuple[int, int, int] | str
"""C(filters, kernel, stride) of the paper with a ReLU behind it, or `POOL`. Nothing is padded."""

_ROWS = 64
"""Descriptors that are compared with all others at a time."""


class PatchOutputs(NamedTuple):
    """Raw outputs; the fields name the outputs of an exported graph.

    Attributes:
        score: (B,) the higher, the more alike; a loss pulls matches above 0 and other pairs below.
    """

    score: Tensor


def convolutions(channels: int, layers: Sequence[Layer]) -> nn.Sequential:
    """The layers of one branch, with weights of He et al. (2015).

    Args:
        channels: Channels that it is given.
        layers: As the paper lists them.
    """
    built: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, str):
            built.append(nn.MaxPool2d(2, 2))
            continue
        filters, kernel, stride = layer
        built += [_he(nn.Conv2d(channels, filters, kernel, stride)), nn.ReLU()]
        channels = filters
    return nn.Sequential(*built)


def flat_width(size: tuple[int, int], layers: Sequence[Layer], name: str) -> int:
    """Numbers that the last of these layers gives for an image of a size.

    Raises:
        UsageError: The image is too small for them.
    """
    sides, filters = list(size), 0
    for layer in layers:
        kernel, stride = (2, 2) if isinstance(layer, str) else layer[1:]
        sides = [(side - kernel) // stride + 1 for side in sides]
        filters = filters if isinstance(layer, str) else layer[0]
    if min(sides) < 1:
        raise UsageError(f"model.input.size {list(size)}: too small for the layers of {name}; its paper's are 64x64")
    return filters * sides[0] * sides[1]


def fully_connected(inputs: int, outputs: int) -> nn.Linear:
    """F(outputs) of the paper."""
    return _he(nn.Linear(inputs, outputs))


def without_mean(patches: Tensor) -> Tensor:
    """Each patch, and each channel of it, without its mean: brightness is no reason to differ."""
    return patches - patches.mean(dim=(2, 3), keepdim=True)


def center_and_surround(patches: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of each patch at its own resolution, and all of it at half: both of half the sides."""
    height, width = patches.shape[-2:]
    top, left = height // 4, width // 4
    center = patches[..., top : top + height // 2, left : left + width // 2]
    return center, F.avg_pool2d(patches, 2)


class Decision(nn.Module):
    """A small network on the descriptors of both patches: F(hidden)-ReLU-F(1).

    Args:
        width: Numbers of one descriptor.
        hidden: Units of the hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.hidden, self.score = fully_connected(2 * width, hidden), fully_connected(hidden, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, width) twice to (B,)."""
        hidden = self.hidden(torch.cat([first, second], dim=1))
        return torch.as_tensor(self.score(hidden.relu())).squeeze(1)

    def costs(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, width) and (M, width) to (N, M) costs above 0: minus the logarithm of the probability of a match.

        The hidden layer is linear in both descriptors, so its sums are made once for each and added for each pair.
        """
        ours = first @ self.hidden.weight[:, : self.width].T + self.hidden.bias
        theirs = second @ self.hidden.weight[:, self.width :].T
        weight, bias = self.score.weight[0], self.score.bias
        rows = [(part[:, None] + theirs).relu() @ weight + bias for part in ours.split(_ROWS)]
        return F.softplus(-torch.cat(rows)) if rows else ours.new_zeros(0, len(second))


class Cosine(nn.Module):
    """The cosine of both descriptors, with a learned scale and shift so that a loss can part pairs by the sign.

    Descriptors that are compared so are found by their distance, as those of SIFT are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(5.0)))
        self.shift = nn.Parameter(torch.tensor(-0.5))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B, width) twice to (B,)."""
        cosine = (F.normalize(first) * F.normalize(second)).sum(dim=1)
        return self.log_scale.exp() * (cosine + self.shift)

    def costs(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, width) and (M, width) to (N, M) distances of descriptors of length 1, 0 to 2."""
        cosine = F.normalize(first) @ F.normalize(second).T
        return (2 - 2 * cosine).clamp(min=0).sqrt()


class PatchNetwork(nn.Module):
    """A network on two patches; those that describe each patch by itself have `describe` and `costs` too."""

    describes = False


class SiameseNetwork(PatchNetwork):
    """Descriptors of both patches, and a comparison of them.

    Args:
        branch: Describes patches, (B, C, H, W) to (B, D).
        other: Describes the second patches where its weights are its own; None shares those of `branch`.
        compare: Compares two descriptors.
    """

    describes = True

    def __init__(self, branch: nn.Module, other: nn.Module | None, compare: Decision | Cosine) -> None:
        super().__init__()
        self.branch, self.other, self.compare = branch, other, compare

    def forward(self, first: Tensor, second: Tensor) -> PatchOutputs:
        return PatchOutputs(self.compare(self.describe(first), self.describe(second, of_second=True)))

    def describe(self, patches: Tensor, of_second: bool = False) -> Tensor:
        """(N, C, H, W) to (N, D).

        Args:
            patches: Normalized.
            of_second: They are second patches, for which a pseudo-siamese network has weights of their own.
        """
        branch = self.other if of_second and self.other is not None else self.branch
        return torch.as_tensor(branch(patches))

    def costs(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, D) and (M, D) to (N, M): the lower, the more alike."""
        return self.compare.costs(first, second)


def comparison(kind: str, width: int, hidden: int, place: str) -> Decision | Cosine:
    """The comparison of that name.

    Args:
        kind: `decision` or `cosine`.
        width: Numbers of one descriptor.
        hidden: Units of the hidden layer of `decision`.
        place: Names the argument in messages.

    Raises:
        UsageError: An unknown name.
    """
    if kind not in ("decision", "cosine"):
        raise UsageError(f"{place}.compare {kind!r}: allowed are decision, cosine")
    return Decision(width, hidden) if kind == "decision" else Cosine()


_Weighted = TypeVar("_Weighted", nn.Conv2d, nn.Linear)


def _he(layer: _Weighted) -> _Weighted:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
