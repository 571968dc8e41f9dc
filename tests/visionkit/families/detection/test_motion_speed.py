"""Speeds of objects, and AP50 by speed, on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.families.detection.coco_eval import DetectionMetrics, detection_tables
from visionkit.families.detection.motion_speed import motion_ious, of_speed
from visionkit.predictions import Detections
from visionkit.tracking.boxes import box_ious


def test_the_mean_overlap_is_taken_over_the_frames_around() -> None:
    # One object moves by 2 of its 10 pixels per frame: overlaps 8/12, 6/14, 4/16; another rests; a third is there once.
    frames = np.array([0, 1, 2, 3, 0, 12, 3])
    ids = np.array([1, 1, 1, 1, 2, 2, 3])
    boxes = np.array([[2 * k, 0, 2 * k + 10, 10] for k in range(4)] + [[50, 50, 60, 60]] * 2 + [[0, 0, 5, 5]])
    one, two, three = 8 / 12, 6 / 14, 4 / 16
    wanted = [(one + two + three) / 3, (2 * one + two) / 3, (2 * one + two) / 3, (one + two + three) / 3]
    found = motion_ious(frames, ids, boxes)
    np.testing.assert_allclose(found[:4], wanted)
    assert np.isnan(found[4:]).all()  # 12 frames apart are none of the ten around, and a lone one has no neighbor
    np.testing.assert_allclose(motion_ious(frames, ids, boxes, reach=1)[[0, 1]], [one, one])
    np.testing.assert_allclose(motion_ious(frames, ids, boxes, reach=12)[4:6], 1)


def test_rows_in_any_order_and_gaps_give_what_all_pairs_give() -> None:
    rng = np.random.default_rng(0)
    frames, ids = np.repeat(np.arange(0, 40, 2), 3), np.tile([7, 1, 4], 20)
    there = rng.random(60) < 0.7
    frames, ids = frames[there], ids[there]
    corners = rng.uniform(0, 9, (len(ids), 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (len(ids), 2))], axis=1)
    order = rng.permutation(len(ids))
    expected = []
    for row in order:
        near = (ids == ids[row]) & (np.abs(frames - frames[row]) <= 10) & (frames != frames[row])
        expected.append(np.mean(box_ious(boxes[[row]], boxes[near])) if near.any() else np.nan)
    np.testing.assert_allclose(motion_ious(frames[order], ids[order], boxes[order]), expected)


def test_borders_of_speeds_are_medium() -> None:
    motion = np.array([0.95, 0.9, 0.8, 0.7, 0.65, np.nan])
    assert of_speed(motion, "slow").tolist() == [True, False, False, False, False, False]
    assert of_speed(motion, "medium").tolist() == [False, True, True, True, False, False]
    assert of_speed(motion, "fast").tolist() == [False, False, False, False, True, False]


def test_ap50_by_speed_counts_objects_of_other_speeds_neither_way() -> None:
    """A slow object is found with .9, a fast one with .8, another fast one is missed, and .85 is found in the air."""
    slow, fast, missed, air = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 60, 70, 70]
    metrics = DetectionMetrics(1)
    found = Detections(("thing",), (80, 80), np.array([slow, fast, air], float), [0.9, 0.8, 0.85], [0, 0, 0])
    target = {"labels": np.zeros(3), "file_boxes": np.array([slow, fast, missed], float)}
    metrics.update([found], [{**target, "file_motion": np.array([0.95, 0.5, 0.6])}], [("a", 0)])
    values = metrics.compute()
    assert values["voc_ap50_slow"] == pytest.approx(1.0)
    # Of the fast ones: first the false one at .85, then one of two: precision 1/2 up to recall 1/2.
    assert values["voc_ap50_fast"] == pytest.approx(0.25)
    assert values["voc_ap50_medium"] == -1
    assert values["voc_ap50"] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    table = {row["speed"]: row["VOC AP50"] for row in detection_tables(values, ["thing"])["motion"]}
    assert table["fast"] == pytest.approx(0.25)


def test_without_speeds_there_are_none() -> None:
    metrics = DetectionMetrics(1)
    found = Detections(("thing",), (80, 80), np.zeros((0, 4)), [], [])
    metrics.update([found], [{"labels": np.zeros(1), "file_boxes": np.array([[0, 0, 9, 9.0]])}])
    values = metrics.compute()
    assert "voc_ap50_slow" not in values and "motion" not in detection_tables(values, ["thing"])


def test_images_of_sequences_are_measured_in_one_order_whatever_the_processes() -> None:
    """Two of equal score, one right and one wrong: which is first decides the AP."""
    right, wrong = np.array([[0, 0, 10, 10.0]]), np.array([[50, 50, 60, 60.0]])
    places = [("a", 0), ("a", 1), ("b", 0)]
    rows = []
    for boxes in (right, wrong, right):
        found = Detections(("thing",), (80, 80), boxes, [0.5], [0])
        rows.append((found, {"labels": np.zeros(1), "file_boxes": right}))
    values = []
    for order in ([0, 1, 2], [2, 0, 1]):  # as in one process, and as a process of "b" and one of "a" are put together
        metrics = DetectionMetrics(1)
        for k in order:
            metrics.update([rows[k][0]], [rows[k][1]], [places[k]])
        values.append(float(metrics.compute()["voc_ap50"]))
    assert values[0] == values[1] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
