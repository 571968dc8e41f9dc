"""Measuring a batch image by image gives what measuring it whole gives, and a weight of two is two images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.contracts.cases import CASES, batch, build
from visionkit.uncertainty.by_image import ImageRecord, picked

NO_INTERVAL = {
    "accuracy_std",  # the spread of ten folds, not a quality
    "ate",  # of whole trajectories
    "ate_snippet",
    "calibration_error",  # noise alone makes it larger
    "threshold",  # chosen, not measured
}
"""Metrics that get no interval; docs/uncertainty.md states why."""


def scalars(task: Any) -> dict[str, float]:
    values = {key: float(value) for key, value in task.metrics.compute().items() if value.numel() == 1}
    task.metrics.reset()
    return values


def check(found: dict[str, np.ndarray], row: int, expected: dict[str, float]) -> None:
    for key, value in found.items():
        there = expected[key]
        assert np.isnan(value[row]) if there == -1 else value[row] == pytest.approx(there, rel=1e-4, abs=1e-6), key


def measured(name: str) -> tuple[Any, Any, Any, ImageRecord, dict[str, float]]:
    """A task, what it decoded of a batch of four images, the batch, its record, and its metrics."""
    torch.manual_seed(0)
    task = build(name).eval()
    data = batch(task, 4)
    with torch.no_grad():
        decoded = task.decode(task.run(data))
    task.measure(decoded, data)
    whole = scalars(task)
    record = task.image_record()
    assert not record.is_empty
    record.measure(decoded, data)
    record.close()
    assert record.ids == data["id"]
    return task, decoded, data, record, whole


@pytest.mark.parametrize("name", sorted(CASES))
def test_images_measured_one_by_one_are_the_batch(name: str) -> None:
    task, _, _, record, whole = measured(name)
    assert scalars(task) == pytest.approx(whole, rel=1e-5, abs=1e-6, nan_ok=True)
    found = record.values(iter([np.ones((1, 4))]))
    assert {key.rpartition("/")[2] for key in whole.keys() - found.keys()} <= NO_INTERVAL
    check(found, 0, whole)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"face_recognition"}))  # pairs: tests/tasks/test_face_metrics.py
def test_a_weight_of_two_is_an_image_that_is_there_twice(name: str) -> None:
    task, decoded, data, record, _ = measured(name)
    task.metrics.reset()
    weights = np.array([[1.0, 2.0, 0.0, 1.0], [2.0, 1.0, 1.0, 1.0]])
    found = record.values(iter([weights]))
    for row, rows in enumerate([(0, 1, 1, 3), (0, 0, 1, 2, 3)]):
        for number, k in enumerate(rows):
            one = one_of(data, k)
            if one.get("sequence"):
                one["sequence"], one["frame"] = [f"{number}"], [0]  # a copy, not the same frame again
            task.measure(picked(decoded, k, 4), {**one, "id": [f"{number}"]})
        check(found, row, scalars(task))


def one_of(data: Any, k: int) -> Any:
    """A batch of one image."""
    count = len(data["id"])
    if "heads" not in data["target"]:
        return picked(data, k, count)
    heads = {
        name: {"rows": torch.zeros(1, dtype=torch.int64), "target": picked(each["target"], k, count)}
        for name, each in data["target"]["heads"].items()
    }
    return {
        **picked({key: value for key, value in data.items() if key != "target"}, k, count),
        "target": {"heads": heads},
    }
