"""From found boxes and small masks in input pixels to predictions in file pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.masks import paste_masks
from visionkit.predictions import Instances


class FoundMasks(NamedTuple):
    """What was found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 in input pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based without background.
        masks: (N, m, m) float32 in [0, 1], stretched over the box.
        threshold: A pixel belongs to the object above it.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor
    threshold: float


def to_predictions(
    found: Sequence[FoundMasks], geometry: Sequence[Geometry], classes: Sequence[str]
) -> list[Instances]:
    """One prediction per image, masks as run lengths; what lies wholly in the padded border is dropped."""
    out = []
    for each, way in zip(found, geometry, strict=True):
        boxes = way.invert_boxes(each.boxes.detach().float().cpu())
        real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        small = each.masks.detach().float().cpu()[real]
        masks = paste_masks(small.flip(-1) if way.flip else small, boxes[real], way.source, each.threshold)
        scores, labels = each.scores.detach().float().cpu()[real].numpy(), each.labels.cpu()[real].numpy()
        out.append(Instances(tuple(classes), way.source, boxes[real].numpy(), scores, labels, masks=tuple(masks)))
    return out
