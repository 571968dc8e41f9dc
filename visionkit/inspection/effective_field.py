"""How much each input pixel weighs in one unit, by gradients: the effective receptive field.

Luo, Li, Urtasun, Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (NIPS
2016): the mean over images of the absolute gradient of a map's center unit with respect to the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.inspection.layer_names import find_layer
from visionkit.inspection.receptive_field import ReceptiveField

THRESHOLD = 1 - 0.9545
"""Fraction of the largest weight that a pixel of the field exceeds: two standard deviations, as in the paper."""

_SIDE = 448  # longer side of a drawing, about


@dataclass(frozen=True)
class EffectiveField:
    """Weights of the input pixels in the center unit of a layer.

    Attributes:
        layer: Name of the layer.
        unit: Row and column of the unit in its map.
        values: (h, w) float32, the largest is 1.
    """

    layer: str
    unit: tuple[int, int]
    values: np.ndarray

    @property
    def size(self) -> float:
        """Side of the square that has as many pixels as exceed the threshold."""
        return float(np.sqrt((self.values > THRESHOLD).sum()))

    @property
    def box(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last row, and first and last column, of the pixels with any weight."""
        rows, columns = (np.flatnonzero(self.values.any(axis=axis)) for axis in (1, 0))
        return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))

    def draw(self, theoretical: ReceptiveField | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the weights, their square root as color, with the theoretical field as a rectangle."""
        import cv2

        factor = max(1, round(_SIDE / max(self.values.shape)))
        codes = (np.sqrt(self.values) * 255 + 0.5).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
        drawn: np.ndarray = cv2.applyColorMap(codes, cv2.COLORMAP_INFERNO)[..., ::-1].copy()
        if theoretical is not None:
            (top, bottom), (left, right) = theoretical.box(self.unit, self.values.shape)
            corner, opposite = (left * factor, top * factor), ((right + 1) * factor - 1, (bottom + 1) * factor - 1)
            cv2.rectangle(drawn, corner, opposite, (255, 255, 255), 1)
        return drawn


def effective_field(
    network: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    layer: str,
    axes: tuple[int, ...] = (2, 3),
    samples: int = 8,
    seed: int = 0,
) -> EffectiveField:
    """Measures the effective receptive field of a layer on noise.

    Args:
        network: The network with its weights, in evaluation mode.
        shapes: Shapes of its inputs, with a batch of one; the gradient is that of the first.
        layer: Name of the layer, whose output is a map of four axes.
        axes: Which of them are its sides.
        samples: Number of noise images.
        seed: Number that the noise follows from.

    Raises:
        UsageError: No such layer, or its output is no map, or no gradient reaches the input.
    """
    module = find_layer(network, layer)[1]
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    total, unit = torch.zeros(shapes[0][-2:]), (0, 0)
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda module, args, out: kept.append(out))
    try:
        for _ in range(samples):
            given = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
            kept.clear()
            with torch.enable_grad():
                network(given[0].requires_grad_(), *given[1:])
                unit, value = _center(kept, layer, axes)
                # Signs at random: channels of one sign could cancel each other out.
                signs = torch.randn(value.shape, generator=generator).to(device)
                (slope,) = torch.autograd.grad((value * signs).sum(), given[0], allow_unused=True)
            if slope is not None:
                total += slope.abs().flatten(0, -3).sum(0).cpu()
    finally:
        handle.remove()
    if not float(total.max()) > 0:
        raise UsageError(f"layer {layer!r}: no gradient of its center unit reaches the input")
    return EffectiveField(layer, unit, (total / total.max()).numpy())


def _center(kept: Iterable[Any], layer: str, axes: tuple[int, ...]) -> tuple[tuple[int, int], Tensor]:
    out = next(iter(kept), None)
    if not isinstance(out, Tensor) or out.ndim != 4:
        what = f"of shape {tuple(out.shape)}" if isinstance(out, Tensor) else "no tensor"
        raise UsageError(f"layer {layer!r}: its output is {what}, not a map (1, C, h, w); give another layer")
    unit = out.shape[axes[0]] // 2, out.shape[axes[1]] // 2
    return unit, out.movedim(axes, (2, 3))[0, :, unit[0], unit[1]]
