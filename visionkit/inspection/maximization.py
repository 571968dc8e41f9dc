"""An image that a channel responds to most.

Mahendran, Vedaldi, "Visualizing Deep Convolutional Neural Networks Using Natural Pre-Images" (IJCV 2016): the
activation is maximized from noise; an alpha norm keeps pixels in range, total variation keeps the image smooth, and
jitter keeps it from being tuned to one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.inspection.layer_names import find_layer

ALPHA, BETA = 6, 2
"""Powers of the norm and of the total variation, the paper's."""


def maximize(
    network: nn.Module,
    shape: Sequence[int],
    layer: str,
    channel: int = 0,
    *,
    axis: int = 1,
    steps: int = 128,
    rate: float = 0.05,
    norm: float = 0.05,
    variation: float = 0.5,
    jitter: int = 4,
    seed: int = 0,
) -> tuple[Tensor, list[float]]:
    """Finds the image.

    Args:
        network: The network, in evaluation mode; its input is normalized, so most values lie within 2 of 0.
        shape: Shape of its input, a batch of one.
        layer: Name of the layer.
        channel: Channel whose mean is maximized.
        axis: Axis of the channels in the output of the layer.
        steps: Steps of Adam.
        rate: Learning rate.
        norm: Weight of the alpha norm.
        variation: Weight of the total variation.
        jitter: Largest shift in pixels.
        seed: Number that noise and shifts follow from.

    Returns:
        (C, h, w) the image as the network takes it, and the activation before the first and after each step.

    Raises:
        UsageError: No such layer or channel.
    """
    module = find_layer(network, layer)[1]
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda module, args, out: kept.append(out))
    generator = torch.Generator().manual_seed(seed)
    image = (0.1 * torch.randn(tuple(shape), generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=rate)
    activations: list[float] = []

    def activation(given: Tensor) -> Tensor:
        kept.clear()
        network(given)
        out = kept[0] if kept else None
        if not isinstance(out, Tensor) or out.ndim < 2:
            raise UsageError(f"layer {layer!r}: its output is no tensor with channels; give another layer")
        if not 0 <= channel < out.shape[axis]:
            raise UsageError(f"layer {layer!r}: has channels 0 to {out.shape[axis] - 1}, not {channel}")
        return out.select(axis, channel).mean()

    try:
        with torch.enable_grad():
            for _ in range(steps):
                shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
                value = activation(torch.roll(image, shift, (-2, -1)))
                scale = max(1e-3, abs(value.item()))  # layers differ by orders of magnitude
                loss = -value / scale + norm * _norm(image) + variation * _variation(image)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                activations.append(value.item())
        with torch.no_grad():
            activations.append(activation(image).item())
    finally:
        handle.remove()
    return image.detach()[0], activations


def _norm(image: Tensor) -> Tensor:
    return (image / 2).pow(ALPHA).mean()


def _variation(image: Tensor) -> Tensor:
    down = (image[..., 1:, :] - image[..., :-1, :])[..., :, :-1]
    right = (image[..., :, 1:] - image[..., :, :-1])[..., :-1, :]
    return (down.square() + right.square()).pow(BETA / 2).mean()


def as_pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(h, w, C) uint8: a normalized image as the pixels that it stands for, clipped.

    Args:
        image: (C, h, w).
        mean: Per channel, for pixels in [0, 1].
        std: Per channel.
    """
    shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    pixels = ((image.cpu() * scale + shift).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy()
