"""Logits on the decoder's grid to label maps: in input pixels for metrics, in file pixels for people."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from visionkit.families.dense.label_maps import labels_in_file
from visionkit.geometry import Geometry
from visionkit.predictions import LabelMap


def at_input_size(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Logits at every pixel of the input.

    Args:
        logits: (B, K, h, w), covering stride * h times stride * w pixels.
        size: Height and width of the input, at most what they cover.
        stride: Pixels to a cell.

    Returns:
        (B, K, height, width).
    """
    if stride > 1:
        whole = (logits.shape[-2] * stride, logits.shape[-1] * stride)
        logits = F.interpolate(logits, size=whole, mode="bilinear", align_corners=False)
    return logits[..., : size[0], : size[1]]


def to_predictions(logits: Tensor, geometry: Sequence[Geometry], classes: Sequence[str], stride: int) -> list[LabelMap]:
    """(B, K, h, w) logits to one label map per image, exactly of its file's size."""
    canvas = (logits.shape[-2] * stride, logits.shape[-1] * stride)
    return [
        LabelMap(tuple(classes), labels_in_file(each, place, canvas))
        for each, place in zip(logits, geometry, strict=True)
    ]
