"""What a layer gives for an image, as a grid of gray images; and the filters of the first layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.inputs import Given, batch_of_one
from visionkit.inspection.field_trace import FieldTrace, begin, field_of
from visionkit.inspection.layer_names import find_layer

if TYPE_CHECKING:
    from visionkit.predictor import Predictor

LIMIT = 64
"""Maps on a grid."""

_SIDE, _GAP = 96, 2  # least side of a cell, pixels between cells


def maps_of(predictor: Predictor, image: Given, layer: str) -> Tensor:
    """The output of a layer of a model for an image, wherever the model is.

    Args:
        predictor: The model.
        image: What the model takes, see `Predictor`.
        layer: Name of the layer.

    Returns:
        (C, h, w) float32 on the CPU, see `feature_maps`.

    Raises:
        DataError: The image cannot be read.
        UsageError: No such layer, or its output has no sides.
    """
    task = predictor.task
    device = next(task.parameters()).device
    inputs = [task.normalize(each.to(device)) for each in batch_of_one(predictor.prepare(image))]
    return feature_maps(task.network, inputs, layer).cpu()


def feature_maps(network: nn.Module, inputs: Sequence[Tensor], layer: str) -> Tensor:
    """The output of a layer for one image.

    Args:
        network: The network, in evaluation mode.
        inputs: What it takes, a batch of one.
        layer: Name of the layer.

    Returns:
        (C, h, w) float32, whichever way the layer orders its axes; tokens of a class are left out.

    Raises:
        UsageError: No such layer, or its output has no sides.
    """
    module = find_layer(network, layer)[1]
    kept: list[Any] = []
    handle = module.register_forward_hook(lambda module, args, out: kept.append(out))
    given = [each.clone() for each in inputs]
    for each in given:
        begin(each)
    try:
        with torch.no_grad(), FieldTrace():
            network(*given)
    finally:
        handle.remove()
    out = kept[0] if kept else None
    field = field_of(out)
    if not isinstance(out, Tensor) or field is None or not field.axes or not len(out):
        shape = tuple(out.shape) if isinstance(out, Tensor) else "no tensor"
        raise UsageError(f"layer {layer!r}: its output ({shape}) has no sides to show; give another layer")
    out = out[:1]  # a network may run on more than the image itself, as on its flipped copy
    if len(field.axes) == 2:
        maps: Tensor = out.movedim(field.axes, (-2, -1)).flatten(0, -3)
        return maps.float()
    steps = zip(given[0].shape[-2:], field.jump, strict=True)
    height, width = (round(side / jump) for side, jump in steps)
    tokens = out.movedim(field.axes[0], -1).flatten(0, -2)[:, out.shape[field.axes[0]] - height * width :]
    found: Tensor = tokens.unflatten(1, (height, width))
    return found.float()


def grid(maps: Tensor | np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Maps side by side, each with its own contrast.

    Args:
        maps: (N, h, w), or (N, h, w, 3) in color.
        limit: Maps that are shown; the first ones.

    Returns:
        (H, W, 3) uint8; a pixel of a map is a square of whole size.
    """
    values = np.asarray(maps, dtype=np.float32)[:limit]
    axes = tuple(range(1, values.ndim))
    low, high = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    cells = (255 * (values - low) / np.maximum(high - low, 1e-12) + 0.5).astype(np.uint8)
    if cells.ndim == 3:
        cells = cells[..., None].repeat(3, axis=3)
    factor = max(1, _SIDE // max(cells.shape[1:3]))
    cells = cells.repeat(factor, axis=1).repeat(factor, axis=2)
    columns = int(np.ceil(np.sqrt(len(cells))))
    rows = -(-len(cells) // columns)
    height, width = cells.shape[1] + _GAP, cells.shape[2] + _GAP
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * height + _GAP, number % columns * width + _GAP
        sheet[top : top + height - _GAP, left : left + width - _GAP] = cell
    return sheet


def first_filters(network: nn.Module) -> tuple[str, np.ndarray]:
    """The filters of the first convolution on an image.

    Args:
        network: The network with its weights.

    Returns:
        Name of the layer, and (N, h, w, 3) float32, or (N, h, w) where it takes other than three channels, their mean.

    Raises:
        UsageError: The network has no convolution.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach().float().cpu().numpy()
            return name, weight.transpose(0, 2, 3, 1) if weight.shape[1] == 3 else weight.mean(axis=1)
    raise UsageError("this network has no convolution, hence no filters to show")
