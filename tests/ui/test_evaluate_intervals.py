"""`visionkit evaluate --bootstrap`: intervals of predictions that lie in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ui.test_evaluate import foreign, measured, people, save, write
from ui.cli import main
from ui.evaluation.coco import by_iou, measure_objects
from ui.evaluation.keypoints import measure_keypoints
from visionkit.families.detection.coco_eval import box_pairs


def check(record: dict[str, Any], *without: str) -> None:
    """Every metric has an interval around it, but for those that are named."""
    known = {name for name, value in record["metrics"].items() if value != -1}
    assert set(record["intervals"]) == known - {*without} and set(record["no_interval"]) == {*without}
    for name, (low, high) in record["intervals"].items():
        assert low <= record["metrics"][name] + 1e-6 and record["metrics"][name] <= high + 1e-6, name
    assert any(high > low for low, high in record["intervals"].values())


def test_boxes_at_chosen_overlaps(tmp_path: Path) -> None:
    labels, found = write(tmp_path, *foreign(3))
    record = measured(tmp_path, "boxes", labels, found, "--iou", ".3", ".6", "--bootstrap", "100")
    assert {"ap", "ap_iou0.30", "voc_ap_iou0.60", "voc_ap11_iou0.60"} <= set(record["metrics"])
    check(record)
    assert "100 bootstrap replicates by image, seed 0" in record["interval_method"]


def test_weights_of_boxes_are_images_that_are_there_so_often(tmp_path: Path) -> None:
    one = measure_objects(*write(tmp_path, *foreign(3)), masks=False, ious=(0.3, 0.6)).resampled
    assert one is not None
    part: Any = one.parts[0]
    found, true, classes = part._given[:3]
    weights = np.ones((2, len(one.units.of_image)))
    weights[1, :3] = 2
    values = part(weights)
    for row, counts in enumerate(weights.astype(int)):
        sides = []
        for side in (found, true):
            rows = [np.flatnonzero(side.image == image) for image in np.repeat(np.arange(len(counts)), counts)]
            taken = side.take(np.concatenate(rows))
            numbers = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
            sides.append(type(side)(**{**vars(taken), "image": numbers}))
        for each in by_iou(*sides, classes, box_pairs, 100, (0.3, 0.6)):
            for name, column in (("ap", "AP"), ("voc_ap", "VOC AP"), ("voc_ap11", "VOC AP11")):
                assert values[f"{name}_iou{each['IoU']:.2f}"][row] == pytest.approx(each[column], abs=1e-9)


def test_keypoints_of_several_categories_and_crowds(tmp_path: Path) -> None:
    top, results = people(2, "crowdpose14", area=False, crowding=True)
    top["categories"].append({**top["categories"][0], "id": 2, "name": "other"})
    for each in [*top["annotations"][::3], *results[::3]]:
        each["category_id"] = 2
    labels, found = write(tmp_path, top, results)
    whole = measure_keypoints(labels, found)
    assert whole.resampled is not None
    ones = whole.resampled.parts[0](np.ones((1, 8)))
    for name, value in whole.metrics.items():
        assert np.isnan(ones[name][0]) if value == -1 else ones[name][0] == pytest.approx(value, abs=1e-9)
    record = measured(tmp_path, "keypoints", labels, found, "--bootstrap", "100")
    check(record, "ap_crowd_easy", "ap_crowd_hard")  # of one and of two images, which are not always drawn


def test_pixels_and_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k in range(6):
        truth = rng.integers(0, 3, (12, 16)).astype(np.uint8)
        save(tmp_path / "labels" / f"{k}.png", truth)
        save(tmp_path / "found" / f"{k}.png", np.where(rng.random(truth.shape) < 0.8, truth, 0).astype(np.uint8))
        meters = rng.uniform(1, 5, (12, 16))
        save(tmp_path / "depth" / f"{k}.png", (1000 * meters).astype(np.uint16))
        save(tmp_path / "near" / f"{k}.png", (1000 * meters * rng.uniform(0.9, 1.1)).astype(np.uint16))
    for kind, *folders in (
        ("label-maps", "labels", "found"),
        ("depth", "depth", "near"),
        ("images", "labels", "found"),
    ):
        check(measured(tmp_path, kind, *(tmp_path / each for each in folders), "--bootstrap", "100"))
    same = np.arange(300) % 2
    lines = [f"{flag},{flag * 0.5 + rng.normal(0, 0.4)}" for flag in same]
    (tmp_path / "pairs.csv").write_text("\n".join(["same,score", *lines]))
    record = measured(tmp_path, "verification", tmp_path / "pairs.csv", "--bootstrap", "100")
    check(record, "threshold", "accuracy_std")
    assert "by pair, stratified by type of pair" in record["interval_method"]


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "tracks", "a", "b", "--bootstrap", "100"]) == 2
    assert "--bootstrap: is for boxes and masks" in capsys.readouterr().err
    labels, found = write(tmp_path, *foreign(3))
    assert main(["evaluate", "boxes", str(labels), str(found), "--bootstrap", "10"]) == 2
    assert "at least 100 replicates" in capsys.readouterr().err
