"""COCO's and VOC's numbers of weighted images equal those of lists in which images are there so often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.interval_coverage import detected
from visionkit.families.detection.coco_eval import DetectionMetrics, box_pairs, evaluate, flatten, voc_ap
from visionkit.families.detection.coco_eval.accumulate import matched
from visionkit.families.detection.coco_eval.resampling import WeightedOverlaps, WeightedVoc
from visionkit.families.detection.coco_eval.voc import voc_matches

WEIGHTS = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 4).astype(np.float64)
WEIGHTS = np.concatenate([np.ones((1, 30)), 1 + np.eye(30)[3:5], WEIGHTS])


def images() -> list[Any]:
    """Images as the metric keeps them, with crowds and speeds."""
    rng = np.random.default_rng(0)
    found, true = detected(rng, 30)
    for each in true:
        count = len(each["labels"])
        each |= {"iscrowd": rng.random(count) < 0.15, "file_motion": rng.uniform(0.4, 1, count)}
    metric = DetectionMetrics(3)
    metric.update(found, true)
    return metric._images


def copies(weights: np.ndarray) -> list[Any]:
    kept = images()
    return [kept[k] for k in np.repeat(np.arange(30), weights.astype(int))]


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_voc_of_weighted_images(iou: float) -> None:
    found, true = flatten(images(), "box")
    values = WeightedVoc(voc_matches(found, true, 3, box_pairs, iou), 3, ("area", "points"))(WEIGHTS)
    for row, each in enumerate(WEIGHTS):
        expected = voc_ap(*flatten(copies(each), "box"), 3, box_pairs, iou)
        assert values["area"][row] == pytest.approx(expected.area.mean(), abs=1e-9)
        assert values["points"][row] == pytest.approx(expected.points11.mean(), abs=1e-9)
    assert np.ptp(values["area"]) > 0.01


def test_coco_at_any_overlap_of_weighted_images() -> None:
    thresholds = np.array([0.3, 0.6, 0.9])
    found, true = flatten(images(), "box")
    flat = matched(found, true, 3, box_pairs, 100, thresholds)
    values = WeightedOverlaps(flat, 3, ("a", "b", "c"))(WEIGHTS)
    for row, each in enumerate(WEIGHTS):
        expected = evaluate(*flatten(copies(each), "box"), 3, box_pairs, 100, thresholds).by_overlap()
        assert [values[name][row] for name in "abc"] == pytest.approx(expected.tolist(), abs=1e-9)


def test_all_numbers_of_weighted_images() -> None:
    metric = DetectionMetrics(3)
    metric._images = images()
    values = metric.resampler()(WEIGHTS)
    assert {"voc_ap50", "voc_ap50_11", "voc_ap50_slow", "voc_ap50_fast", "box_ap", "box_ar_large"} <= values.keys()
    for row, each in enumerate(WEIGHTS):
        found, true = flatten(copies(each), "box")
        numbers = evaluate(found, true, 3, box_pairs).numbers()
        for name, value in numbers.items():
            got = values[f"box_{name}"][row]
            assert np.isnan(got) if value == -1 else got == pytest.approx(value, abs=1e-9), name
        repeated = DetectionMetrics(3)
        repeated._images = copies(each)
        whole = repeated.compute()
        for name in ("voc_ap50", "voc_ap50_11", "voc_ap50_slow", "voc_ap50_medium", "voc_ap50_fast"):
            assert values[name][row] == pytest.approx(float(whole[name]), abs=1e-7)
