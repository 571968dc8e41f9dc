"""Measuring a batch image by image gives what measuring it whole gives, for every task whose metrics add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.contracts.cases import CASES, batch, build
from visionkit.uncertainty.by_image import ImageRecord

RESAMPLED = {
    "camera_motion",
    "classification",
    "depth",
    "detection",
    "instance_segmentation",
    "optical_flow",
    "restoration",
    "semantic_segmentation",
    "stereo",
    "super_resolution",
}
"""Tasks whose metrics get intervals; docs/uncertainty.md lists them."""


@pytest.mark.parametrize("name", sorted(CASES))
def test_images_measured_one_by_one_are_the_batch(name: str) -> None:
    torch.manual_seed(0)
    task = build(name).eval()
    record = ImageRecord(task)
    assert record.is_empty == (name not in RESAMPLED)
    if record.is_empty:
        return
    data = batch(task, 3)
    with torch.no_grad():
        decoded = task.decode(task.run(data))
    task.measure(decoded, data)
    whole = {key: float(value) for key, value in task.metrics.compute().items() if value.numel() == 1}
    task.metrics.reset()
    record.measure(decoded, data)
    record.close()
    parts = {key: float(value) for key, value in task.metrics.compute().items() if value.numel() == 1}
    assert parts == pytest.approx(whole, rel=1e-5, abs=1e-6, nan_ok=True)
    found = record.values(iter([np.ones((1, 3))]))
    assert found.keys() & whole.keys()
    for key, value in found.items():
        assert np.isnan(value[0]) if whole[key] == -1 else value[0] == pytest.approx(whole[key], rel=1e-4, abs=1e-6)
