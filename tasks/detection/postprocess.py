"""From found boxes in input pixels to predictions in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

from visionkit.families.detection.select import SelectedBoxes
from visionkit.geometry import Geometry
from visionkit.predictions import Detections


def to_predictions(
    found: Sequence[SelectedBoxes], geometry: Sequence[Geometry], classes: Sequence[str]
) -> list[Detections]:
    """One prediction per image; what lies wholly in the padded border is dropped."""
    out = []
    for each, way in zip(found, geometry, strict=True):
        boxes = way.invert_boxes(each.boxes.detach().float().cpu())
        real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        scores, labels = each.scores.detach().float().cpu()[real], each.labels.cpu()[real]
        out.append(Detections(tuple(classes), way.source, boxes[real].numpy(), scores.numpy(), labels.numpy()))
    return out
