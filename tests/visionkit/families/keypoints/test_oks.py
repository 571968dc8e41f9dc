"""OKS: the published numbers, and pycocotools on random data."""

import contextlib
import io
import json

import numpy as np
import pytest

from tests.real_data import real_data
from visionkit.families.keypoints.oks import PoseResults, Truth, evaluate, oks
from visionkit.skeleton import Skeleton

COCO = Skeleton.of("coco17").oks_sigmas()
NAMES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


def truth_of(annotations, keypoints=17):
    boxes = np.array([a.get("bbox", (0, 0, 0, 0)) for a in annotations], float).reshape(-1, 4)
    return Truth(
        np.array([a["image_id"] for a in annotations]),
        np.array([a["keypoints"] for a in annotations], float).reshape(-1, keypoints, 3),
        np.array([a["area"] for a in annotations], float),
        np.array([bool(a["iscrowd"]) for a in annotations]),
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
    )


def found_of(results, keypoints=17):
    return PoseResults(
        np.array([r["image_id"] for r in results]),
        np.array([r["keypoints"] for r in results], float).reshape(-1, keypoints, 3)[:, :, :2],
        np.array([r["score"] for r in results], float),
    )


def reference(dataset, results):
    from pycocotools.coco import COCO as Api
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        api = Api()
        api.dataset = dataset
        api.createIndex()
        judge = COCOeval(api, api.loadRes(results), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(NAMES, judge.stats, strict=True))


def test_the_known_similarity():
    keypoints = np.concatenate([np.full((1, 17, 2), 50.0), np.full((1, 17, 1), 2.0)], axis=2)
    found_keypoints = keypoints[..., :2] + (3.0, 4.0)
    value = oks(found_keypoints, keypoints, np.array([1e4]), np.zeros((1, 4)), COCO)
    assert value[0, 0] == pytest.approx(0.8711549524, abs=1e-10)


def test_the_known_numbers():
    folder = real_data("pose/coco17_keypoints")
    dataset = json.loads((folder / "gt_dataset.json").read_text())
    results = json.loads((folder / "dt_dataset.json").read_text())
    values = evaluate(found_of(results), truth_of(dataset["annotations"]), COCO)
    known = {
        "ap": 0.5049, "ap50": 0.7228, "ap75": 0.6337, "ap_medium": 0.4663, "ap_large": 0.7505,
        "ar": 0.5182, "ar50": 0.7273, "ar75": 0.6364,
    }  # fmt: skip
    assert {name: round(values[name], 4) for name in known} == known
    assert values == pytest.approx(reference(dataset, results), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools_on_random_images(seed):
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, 9):
        for _ in range(rng.integers(0, 6)):
            corner, side = rng.uniform(0, 300, 2), rng.uniform(20, 250, 2)
            keypoints = np.column_stack([corner + rng.uniform(0, 1, (17, 2)) * side, rng.integers(0, 3, 17)])
            if rng.random() < 0.15:
                keypoints[:] = 0
            keypoints[keypoints[:, 2] == 0] = 0
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": 1, "area": float(side.prod() * 0.6),
                "bbox": [*corner, *side], "iscrowd": int(rng.random() < 0.1), "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            })  # fmt: skip
            for _ in range(rng.integers(0, 9)):
                moved = keypoints[:, :2] + rng.normal(0, rng.choice([2, 8, 30]), (17, 2))
                row = np.column_stack([moved, np.ones(17)]).ravel().tolist()
                score = float(rng.choice([0.3, 0.5, rng.random()]))
                results.append({"image_id": image, "category_id": 1, "keypoints": row, "score": score})
    dataset = {
        "info": {}, "images": [{"id": k} for k in range(1, 9)], "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    ours = evaluate(found_of(results), truth_of(annotations), COCO)
    assert ours == pytest.approx(reference(dataset, results), abs=1e-9)


def test_nothing_found_and_nothing_there():
    nobody = PoseResults(np.zeros(0, int), np.zeros((0, 17, 2)), np.zeros(0))
    empty = Truth(np.zeros(0, int), np.zeros((0, 17, 3)), np.zeros(0), np.zeros(0, bool), np.zeros((0, 4)))
    assert set(evaluate(nobody, empty, COCO).values()) == {-1.0}
    someone = Truth(np.array([3]), np.ones((1, 17, 3)), np.array([2e4]), np.array([False]), np.array([[0, 0, 9, 9.0]]))
    values = evaluate(nobody, someone, COCO)
    assert values["ap"] == 0 and values["ar"] == 0 and values["ap_medium"] == -1
