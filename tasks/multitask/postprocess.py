"""What the heads found, put together for each image, and taken apart again where only some heads have labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from visionkit.predictions import MultiTaskPrediction, Prediction
from visionkit.task import VisionTask
from visionkit.types import Batch


def to_predictions(found: Mapping[str, Sequence[Prediction]]) -> list[MultiTaskPrediction]:
    """The predictions of every head, each one for every image, to one prediction per image."""
    names = list(found)
    return [MultiTaskPrediction(dict(zip(names, row, strict=True))) for row in zip(*found.values(), strict=True)]


def chosen_rows(batch: Batch, name: str) -> Tensor | None:
    """The images of a batch that have a label for a head; None where all have one."""
    rows: Tensor = batch["target"]["heads"][name]["rows"]
    return None if rows.shape[0] == len(batch["id"]) else rows


def batch_of(batch: Batch, name: str) -> Batch:
    """The images that have a label for a head as a batch of that head's own task."""
    rows = chosen_rows(batch, name)
    target = batch["target"]["heads"][name]["target"]
    if rows is None:
        return {**batch, "target": target}
    numbers = rows.tolist()
    return {
        "inputs": {key: each[rows] for key, each in batch["inputs"].items()},
        "target": target,
        "geometry": [batch["geometry"][number] for number in numbers],
        "id": [batch["id"][number] for number in numbers],
    }


def labeled_predictions(tasks: Mapping[str, VisionTask], decoded: Mapping[str, Any], batch: Batch) -> list[Prediction]:
    """For each image of a batch the predictions of the heads that have a label on it.

    Args:
        tasks: Task of each head by name.
        decoded: What the heads found, each for the images that it has labels for.
        batch: The batch.
    """
    parts: list[dict[str, Prediction]] = [{} for _ in batch["id"]]
    for name, found in decoded.items():
        if name in batch["target"]["heads"]:
            rows = batch["target"]["heads"][name]["rows"].tolist()
            for row, prediction in zip(rows, tasks[name].predictions(found, batch_of(batch, name)), strict=True):
                parts[row][name] = prediction
    return [MultiTaskPrediction(each) for each in parts]
