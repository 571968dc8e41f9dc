"""Class activation mapping: the features that are weighed, and the ways to weigh them; see `visionkit.explain`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visionkit.backbones import Backbone, Features
from visionkit.errors import UsageError

MOST = 128
"""Channels that Score-CAM weighs."""


def gradient_weights(features: Tensor, slopes: Tensor, method: str) -> Tensor:
    """(C,) weight of each channel."""
    if method == "grad-cam":
        return slopes.mean(dim=(1, 2))
    # Grad-CAM++, equation 19, for a score behind an exponential: its higher derivatives are powers of the first.
    square = slopes.square()
    total = 2 * square + (features.sum(dim=(1, 2), keepdim=True) * square * slopes)
    alpha = square / torch.where(total.abs() > 1e-12, total, torch.ones_like(total))
    return (alpha * torch.relu(slopes)).sum(dim=(1, 2))


@torch.no_grad()
def score_weights(
    task: Any, inputs: list[Tensor], features: Tensor, score: Callable[[Any], Tensor], batch: int = 16
) -> Tensor:
    """(C,) by how much the image, seen through each channel's map, scores above an empty one.

    Each channel costs a pass, so only the `MOST` whose maps vary most are weighed; the others are 0.
    """
    first, *rest = (task.normalize(each) for each in inputs)
    chosen = features.var(dim=(1, 2)).topk(min(MOST, len(features))).indices
    masks = torch.nn.functional.interpolate(
        features[None, chosen], first.shape[-2:], mode="bilinear", align_corners=False
    )[0]
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    masks = (masks - low) / torch.where(high > low, high - low, torch.ones_like(high))

    def scored(images: Tensor) -> Tensor:
        return score(task.network(images, *(each.repeat(len(images), 1, 1, 1) for each in rest)))

    empty = scored(torch.zeros_like(first))
    gains = torch.cat([scored(first * part[:, None]) for part in masks.split(batch)]) - empty
    return torch.zeros(len(features), device=gains.device).index_copy(0, chosen, gains)


@torch.no_grad()
def rolled_out(maps: list[Tensor], backbone: Backbone, grid: tuple[int, ...]) -> Tensor:
    """(h, w) how much of each patch reaches the class token, or all tokens where there is none."""
    square = [each for each in maps if each.shape[-1] == each.shape[-2] == maps[0].shape[-1]]
    prefix = int(getattr(backbone.model, "num_prefix_tokens", 0) or 0)
    if not square or square[0].shape[-1] - prefix != math.prod(grid):
        raise UsageError(f"backbone {backbone.name!r}: is no plain transformer, whose attention could be rolled out")
    flow = torch.eye(square[0].shape[-1])
    for attention in square:
        mixed = attention[0].mean(dim=0).float().cpu() + torch.eye(len(flow))  # half of each token stays its own
        flow = mixed / mixed.sum(dim=1, keepdim=True) @ flow
    row = flow[0] if prefix else flow.mean(dim=0)
    return row[prefix:].reshape(grid)


class AttentionMaps(TorchFunctionMode):
    """While it is entered, keeps the attention of every layer, fused or not.

    Attributes:
        maps: (B, heads, N, N) each, in the order in which they are used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            query, key = (each.detach() for each in args[:2])
            scale = (kwargs or {}).get("scale") or query.shape[-1] ** -0.5
            self.maps.append((query @ key.transpose(-2, -1) * scale).softmax(dim=-1))
        elif name == "softmax" and out.ndim == 4 and out.shape[-1] == out.shape[-2]:
            self.maps.append(out.detach())
        return out


class LastFeatures:
    """While open, makes the last features of a network leaves of the graph, so that only what follows is recorded.

    Args:
        network: Has a backbone.
        deepest: Of a pyramid, the deepest map alone.
    """

    def __init__(self, network: nn.Module, deepest: bool) -> None:
        self.backbone: Backbone = network.backbone  # type: ignore[assignment]
        self.leaves: list[Tensor] = []
        self._deepest = deepest
        self._handle: Any = None

    def __enter__(self) -> LastFeatures:
        blocks = getattr(self.backbone.model, "blocks", None)
        tokens = getattr(self.backbone.model, "num_prefix_tokens", 0)
        plain = tokens and isinstance(blocks, nn.Sequential | nn.ModuleList) and not self.backbone.strides
        last = blocks[-1] if plain and blocks is not None else None
        norm = getattr(last, "norm1", None)
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity):
            self._handle = norm.register_forward_hook(lambda module, given, out: self._taken(out))
        else:
            self._handle = self.backbone.register_forward_hook(lambda module, given, out: self._of(out))
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _of(self, features: Features) -> Features:
        if features.pyramid:
            taken = [max(features.pyramid)] if self._deepest else list(features.pyramid)
            pyramid = {each: self._taken(features.pyramid[each]) for each in taken}
            return features._replace(pyramid={**features.pyramid, **pyramid})
        if not isinstance(features.final, Tensor):
            raise UsageError(f"backbone {self.backbone.name!r}: it ends in several branches and has no one map to show")
        return features._replace(final=self._taken(features.final))

    def _taken(self, out: Tensor) -> Tensor:
        self.leaves.append(out.detach().clone().requires_grad_())
        return self.leaves[-1].clone()  # what follows may work in place


@dataclass(frozen=True)
class Layout:
    """How features lie in memory."""

    prefix: int
    grid: tuple[int, int] | None
    last: bool

    @classmethod
    def of(cls, features: Tensor, backbone: Backbone, size: tuple[int, int]) -> Layout:
        model: Any = backbone.model
        if features.ndim == 4:
            width = int(getattr(model, "num_features", features.shape[1]))
            return cls(0, None, last=features.shape[1] != width and features.shape[-1] == width)
        if features.ndim == 3:
            prefix = int(getattr(model, "num_prefix_tokens", 0))
            count = features.shape[1] - prefix
            rows = max(1, round((count * size[0] / size[1]) ** 0.5))
            while count % rows:  # the whole number of rows nearest to the image's shape
                rows -= 1
            return cls(prefix, (rows, count // rows), last=True)
        raise UsageError(f"backbone {backbone.name!r}: its last features are no map, so there is nothing to show")

    def map(self, features: Tensor) -> Tensor:
        """(C, h, w) of the one image."""
        if self.grid is not None:
            return features[0, self.prefix :].reshape(*self.grid, -1).permute(2, 0, 1)
        return features[0].permute(2, 0, 1) if self.last else features[0]
