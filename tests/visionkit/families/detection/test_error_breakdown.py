"""Every error has one kind, and costs what an oracle gains: hand-worked cases of one kind each, and TIDE's own tool."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.real_data import real_data
from visionkit.families.detection import error_breakdown
from visionkit.families.detection.analysis import DetectionAnalysis
from visionkit.families.detection.coco_eval import Flat, box_areas, box_pairs, evaluate, mask_pairs
from visionkit.families.detection.error_breakdown import KINDS, break_down
from visionkit.masks import encode_masks

A, B = [0, 0, 10, 10], [50, 50, 70, 70]


def flat(rows, crowd=()):
    """Rows of image, class, box and, of found objects, score."""
    boxes = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
    scores = np.array([row[3] for row in rows if len(row) > 3], dtype=np.float64)
    flags = np.zeros(len(rows), dtype=bool)
    flags[list(crowd)] = True
    image, labels = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 1))
    return Flat(image, labels, boxes, box_areas(boxes), scores, crowd=flags)


TRUE = [(0, 0, A), (0, 1, B), (1, 0, A)]
# What is wrong is the highest-scoring, so that mending it shows in AP.
SINGLE = {
    "classification": ([(0, 1, A, 0.9), (0, 1, B, 0.8), (1, 0, A, 0.7)], "classification"),
    "localization": ([(0, 0, [0, 0, 10, 4], 0.9), (0, 1, B, 0.8), (1, 0, A, 0.7)], "localization"),
    "both": ([(0, 1, [0, 0, 10, 4], 0.9), (0, 0, A, 0.8), (0, 1, B, 0.8), (1, 0, A, 0.7)], "both"),
    "duplicate": ([(0, 0, A, 0.9), (0, 0, [0, 0, 10, 9], 0.8), (0, 1, B, 0.8), (1, 0, A, 0.7)], "duplicate"),
    "background": ([(0, 0, [30, 0, 40, 10], 0.9), (0, 0, A, 0.8), (0, 1, B, 0.8), (1, 0, A, 0.7)], "background"),
    "missed": ([(0, 0, A, 0.9), (1, 0, A, 0.7)], "missed"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_a_single_kind_are_attributed_to_it_entirely(kind):
    found, name = SINGLE[kind]
    result = break_down(flat(found), flat(TRUE), 2, box_pairs)
    assert {each: result.count(each) for each in KINDS} == {each: int(each == name) for each in KINDS}
    assert result.ap + result.costs[name] == pytest.approx(1), "mending the only error makes everything right"
    assert all(result.costs[each] == 0 for each in KINDS if each != name)


def test_costs_of_a_case_worked_by_hand():
    # Class 0 has two objects: a miss, and the other one found below a wrong one. AP is 1/2 up to a recall of 1/2: 51 of
    # 101 points. Without the wrong one precision is 1 there; without the missed object AP is 1/2 everywhere.
    found = [(0, 0, [30, 0, 40, 10], 0.9), (0, 0, A, 0.8)]
    result = break_down(flat(found), flat([(0, 0, A), (1, 0, A)]), 1, box_pairs)
    assert result.ap == pytest.approx(51 / 101 / 2)
    assert result.costs["background"] == pytest.approx(51 / 101 / 2)
    assert result.costs["missed"] == pytest.approx(0.5 - 51 / 101 / 2)
    assert result.costs["false positive"] == result.costs["background"]
    assert result.costs["false negative"] == result.costs["missed"]
    rows = {row["error"]: row["count"] for row in result.rows()}
    assert (rows["false positive"], rows["false negative"]) == (1, 1)


def test_one_object_is_mended_once_and_not_missed():
    # Two badly placed boxes mean one object: the higher-scoring one becomes right, the other one vanishes.
    found = [(0, 0, [0, 0, 10, 4], 0.9), (0, 0, [0, 6, 10, 10], 0.8)]
    result = break_down(flat(found), flat([(0, 0, A)]), 1, box_pairs)
    assert (result.count("localization"), result.count("missed"), result.ap) == (2, 0, 0)
    assert result.costs["localization"] == 1
    assert {row["error"]: row["count"] for row in result.rows()}["false negative"] == 1


def test_crowds_count_neither_way_and_nothing_gives_nothing():
    inside = flat([(0, 0, [1, 1, 5, 5], 0.9)])
    result = break_down(inside, flat([(0, 0, A)], crowd=[0]), 1, box_pairs)
    assert not any(result.count(kind) for kind in KINDS) and result.is_kind("ignored").all()
    empty = break_down(flat([]), flat([]), 3, box_pairs)
    assert empty.ap == -1 and not any(empty.costs.values())
    only = break_down(flat([]), flat(TRUE), 2, box_pairs)
    assert only.count("missed") == 3 and only.costs["missed"] == 1, "nothing else is wrong"


def test_masks_overlap_by_their_pixels():
    whole, half = np.zeros((2, 20, 20), dtype=bool)
    whole[:10, :10] = half[:10, :4] = True
    boxes = np.array([[0, 0, 10, 10]], dtype=np.float64)
    one = np.zeros(1, dtype=np.int64)
    true = Flat(one, one, boxes, box_areas(boxes), crowd=one > 0, masks=encode_masks(whole[None]))
    found = Flat(one, one, boxes, box_areas(boxes), np.array([0.9]), masks=encode_masks(half[None]))
    assert break_down(found, true, 1, box_pairs).count("right") == 1
    assert break_down(found, true, 1, mask_pairs).count("localization") == 1


def _random(seed):
    rng = np.random.default_rng(seed)
    true, found = [], []
    for image in range(15):
        for _ in range(rng.integers(1, 6)):
            x, y, w, h = *rng.uniform(0, 200, 2), *rng.uniform(10, 80, 2)
            label = int(rng.integers(3))
            true.append((image, label, [x, y, x + w, y + h]))
            for _ in range(rng.integers(0, 4)):
                dx, dy, scale = *rng.normal(0, 8, 2), float(np.exp(rng.normal(0, 0.2)))
                named = label if rng.random() < 0.7 else int(rng.integers(3))
                box = [x + dx, y + dy, x + dx + w * scale, y + dy + h * scale]
                found.append((image, named, box, float(rng.random())))
        for _ in range(rng.integers(0, 3)):
            x, y, w, h = *rng.uniform(0, 400, 2), *rng.uniform(10, 80, 2)
            found.append((image, int(rng.integers(3)), [x, y, x + w, y + h], float(rng.random())))
    return true, found


@pytest.mark.parametrize("seed", range(3))
def test_ap_is_that_of_the_metric(seed):
    true, found = _random(seed)
    expected = evaluate(flat(found), flat(true), 3, box_pairs).numbers()["ap50"]
    assert break_down(flat(found), flat(true), 3, box_pairs).ap == pytest.approx(expected, abs=1e-12)


SHORT = {
    "classification": "Cls", "localization": "Loc", "both": "Both", "duplicate": "Dupe", "background": "Bkg",
    "missed": "Miss", "false positive": "FalsePos", "false negative": "FalseNeg",
}  # fmt: skip


@pytest.fixture
def tide(monkeypatch):
    """TIDE's own tool."""
    package = pytest.importorskip("tidecv")
    for name, kind in (("float", float), ("int", int)):  # which numpy had when the tool was written
        monkeypatch.setattr(np, name, kind, raising=False)
    # Its recall points are k / 100, COCO's differ from them in the last bit.
    monkeypatch.setattr(error_breakdown, "RECALL_POINTS", np.arange(101) / 100)
    return package


def theirs(tide, truth, predictions, mode):
    run = tide.quantify.TIDERun(truth, predictions, 0.5, 0.1, mode, 100, True)
    costs = {each.short_name: cost for each, cost in {**run.fix_main_errors(), **run.fix_special_errors()}.items()}
    counts = {each.short_name: len(errors) for each, errors in run.error_dict.items()}
    named = {name: costs[short] / 100 for name, short in SHORT.items()}
    return run.ap / 100, named, {name: counts.get(SHORT[name], 0) for name in KINDS}


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_costs_are_those_of_tides_own_tool(seed, tide):
    true, found = _random(seed)
    truth, predictions = tide.Data("truth"), tide.Data("predictions")
    for image, label, (x1, y1, x2, y2) in true:
        truth.add_ground_truth(image, label, [x1, y1, x2 - x1, y2 - y1])
    for image, label, (x1, y1, x2, y2), score in found:
        predictions.add_detection(image, label, score, [x1, y1, x2 - x1, y2 - y1])
    ours = break_down(flat(found), flat(true), 3, box_pairs)
    ap, costs, counts = theirs(tide, truth, predictions, tide.TIDE.BOX)
    assert ours.ap == pytest.approx(ap, abs=1e-11)
    assert ours.costs == pytest.approx(costs, abs=1e-11)
    assert {name: ours.count(name) for name in KINDS} == counts


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_coco_apis_own_example_is_analyzed_as_tides_own_tool_does(kind, tide, tmp_path):
    from ui.evaluation.coco import measure_objects

    folder = real_data("detection/coco_val2014_fake100")
    labels, results = folder / "instances_val2014_100.json", folder / f"instances_val2014_fake{kind}100_results.json"
    top = json.loads(labels.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in top["images"]}
    truth, predictions = tide.Data("truth"), tide.Data("predictions")
    for each in top["annotations"]:
        mask = tide.functions.toRLE(each["segmentation"], *sizes[each["image_id"]][::-1])
        add = truth.add_ignore_region if each["iscrowd"] else truth.add_ground_truth
        add(each["image_id"], each["category_id"], each["bbox"], mask)
    # The tool counts classes that have results and no objects as 0, COCO and this leave them out.
    asked = {each["category_id"] for each in top["annotations"] if not each["iscrowd"]}
    # Neither orders equal scores as the other does.
    kept = [each for each in json.loads(results.read_text()) if each["category_id"] in asked]
    kept = [{**each, "score": each["score"] + 1e-9 * number} for number, each in enumerate(kept)]
    (tmp_path / "results.json").write_text(json.dumps(kept))
    for each in kept:
        given = [each.get("bbox"), each.get("segmentation")]
        predictions.add_detection(each["image_id"], each["category_id"], each["score"], *given)
    mode = tide.TIDE.MASK if kind == "segm" else tide.TIDE.BOX
    _, costs, counts = theirs(tide, truth, predictions, mode)
    measured = measure_objects(labels, tmp_path / "results.json", kind == "segm")
    rows = {row["error"]: row for row in measured.analysis.tables()["error breakdown"]}
    assert {name: rows[name]["count"] for name in KINDS} == counts
    assert {name: row["dAP"] for name, row in rows.items()} == pytest.approx(costs, abs=1e-9)


def test_an_analysis_counts_what_is_shown_and_ranks_by_it():
    analysis = DetectionAnalysis(("a", "b"))
    found = [(0, 0, A, 0.9), (0, 1, A, 0.3), (1, 1, A, 0.8)]
    analysis.take(("good", "bad", "empty"), flat(found), flat([(0, 0, A), (1, 0, A), (1, 1, B)]), 0.5)
    good, bad, empty = analysis.rows
    assert (good["f1"], bad["f1"], empty["f1"]) == (1, 0, 1)
    assert (bad["classification"], bad["missed"], bad["highest wrong score"]) == (1, 1, 0.8)
    assert analysis.badness(bad) > analysis.badness(good) and analysis.confidence(good) is None
    table = analysis.tables()
    assert [(row["image"], row["score"], row["error"]) for row in table["most confident errors"]] == [
        ("bad", 0.8, "classification"),
        ("good", 0.3, "classification"),
    ], "what is not shown is an error of AP all the same"
    assert analysis.values(np.array([0]))["ap50"] == pytest.approx(1)
    assert analysis.values(np.array([1]))["ap50"] == 0
