"""What each image adds to the metrics of several heads, where images have labels for some of them alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tasks.test_multitask import batch_of, joint, scenes


def test_an_image_weighs_in_the_heads_that_it_has_labels_for() -> None:
    task = joint().eval()
    record = task.image_record()
    data = batch_of(scenes({"what": 6, "far": 3}), [0, 1, 3, 2, 4])
    with torch.inference_mode():
        outputs = task(*data["inputs"].values(), task._rows(data))
        record.measure(task.decode(outputs), data)
    whole = {key: float(value) for key, value in task.metrics.compute().items() if value.numel() == 1}
    record.close()
    assert record.ids == data["id"] and record.units.strata_kind == "the heads that have labels"
    assert record.units.strata.tolist() == [0, 0, 1, 0, 1]
    weights = np.ones((4, 5))
    weights[1, [2, 4]] = 0  # images without a depth
    weights[2, 0] = 3
    weights[3, [0, 1, 3]] = 0
    found = record.values(iter([weights]))
    for key in ("what/top1", "far/abs_rel", "score"):
        assert found[key][0] == pytest.approx(whole[key], abs=1e-6), key
    assert found["far/abs_rel"][1] == pytest.approx(found["far/abs_rel"][0])
    assert found["far/abs_rel"][2] != pytest.approx(found["far/abs_rel"][0])
    both = found["what/top1"] / 2 + 1 / (1 + found["far/abs_rel"]) / 2
    assert found["score"][:3] == pytest.approx(both[:3])
    named = {f"val/{key}": value for key, value in whole.items()}
    stated = record.intervals(named, "val", 100, 0)
    assert {"val/far/abs_rel", "val/score"} <= stated.bounds.keys()
    assert "stratified by the heads that have labels" in stated.method
    assert stated.missing == ("val/what/calibration_error",)
