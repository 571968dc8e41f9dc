"""Boxes and masks as W&B lays them over an image, to be switched on and off class by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from visionkit.loggers.content import LoggedImage
from visionkit.predictions import Overlay
from visionkit.types import IGNORE


def overlaid(image: LoggedImage) -> Any:
    """A `wandb.Image` of the bare image with its layers, truth and prediction each by its name."""
    import wandb

    boxes = {name: _boxes(layer) for name, layer in image.layers.items() if layer.boxes is not None}
    masks = {name: _mask(layer) for name, layer in image.layers.items() if layer.labels is not None}
    return wandb.Image(image.plain, caption=image.caption, boxes=boxes or None, masks=masks or None)


def _names(layer: Overlay) -> dict[int, str]:
    return dict(enumerate(layer.classes))


def _boxes(layer: Overlay) -> dict[str, Any]:
    assert layer.boxes is not None and layer.numbers is not None and layer.scores is not None
    found = zip(layer.boxes.tolist(), layer.numbers.tolist(), layer.scores.tolist(), strict=True)
    data = [
        {
            "position": dict(zip(("minX", "minY", "maxX", "maxY"), box, strict=True)),
            "class_id": number,
            "box_caption": f"{layer.classes[number]} {score:.2f}",
            "scores": {"score": score},
        }
        for box, number, score in found
    ]
    return {"box_data": data, "class_labels": _names(layer)}


def _mask(layer: Overlay) -> dict[str, Any]:
    assert layer.labels is not None
    return {"mask_data": layer.labels.view(_Bytes), "class_labels": {**_names(layer), IGNORE: "nothing"}}


class _Bytes(np.ndarray):
    """Labels that stay bytes: W&B turns them into signed ones before it writes the file, and 128 to 255 into 0."""

    def astype(self, *args: Any, **kwargs: Any) -> Any:
        return np.asarray(self)
