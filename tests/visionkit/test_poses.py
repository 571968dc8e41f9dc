"""Poses as values: json both ways, choosing, drawing, COCO's results."""

import json

import numpy as np
import pytest

from visionkit.predictions import Poses, Prediction
from visionkit.skeleton import Skeleton

COCO = Skeleton.of("coco17")


def poses(count=2, seed=0, **arguments):
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(20, 180, (count, 17, 2))
    boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
    return Poses(COCO, keypoints, rng.random((count, 17)), rng.random(count), boxes, **arguments)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_both_ways(count):
    value = poses(count)
    assert Prediction.from_json(json.loads(json.dumps(value.to_json()))) == value
    assert len(value) == count and (np.diff(value.scores) <= 0).all()


def test_values_are_checked_and_frozen():
    with pytest.raises(ValueError, match="are not one each"):
        Poses(COCO, np.zeros((2, 17, 2)), np.zeros((2, 17)), np.zeros(1), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="not a finite number"):
        Poses(COCO, np.full((1, 17, 2), np.nan), np.zeros((1, 17)), np.zeros(1), np.zeros((1, 4)))
    value = poses()
    with pytest.raises(ValueError, match="read-only"):
        value.keypoints[0] = 0


def test_choosing_and_joining():
    value = poses(3, threshold=0.5)
    assert len(value.above(0)) == 3 and len(value.above()) == int((value.scores >= 0.5).sum())
    parts = [value.chosen([k]) for k in (2, 0, 1)]
    assert Poses.joined(parts) == value
    assert len(Poses.none(COCO)) == 0


def test_coco_results_have_x_y_score_of_every_keypoint():
    value = poses(2)
    rows = value.coco_results(7, 1)
    assert [row["score"] for row in rows] == value.scores.tolist() and rows[0]["image_id"] == 7
    triples = np.array(rows[1]["keypoints"]).reshape(17, 3)
    assert np.allclose(triples[:, :2], value.keypoints[1], atol=1e-3)
    assert np.allclose(triples[:, 2], value.keypoint_scores[1], atol=1e-3)


def test_drawing_marks_the_highest_scoring_keypoints_and_leaves_the_rest_out():
    image = np.full((200, 260, 3), 90, np.uint8)
    value = poses(1, threshold=0.0, keypoint_threshold=0.0)
    drawn = value.draw(image)
    enlarged = drawn.shape[1] // image.shape[1]
    x, y = (value.keypoints[0, 9] * enlarged).astype(int)
    assert drawn.shape[:2] == (200 * enlarged, 260 * enlarged) and (drawn[y, x] > 200).all()
    assert (image == 90).all(), "the image itself is not changed"
    unsure = Poses(COCO, value.keypoints, np.zeros((1, 17)), np.ones(1), value.boxes)
    assert (unsure.draw(image) == 90).all()
    hidden = Poses(COCO, value.keypoints, np.ones((1, 17)), np.full(1, 0.1), value.boxes)
    assert (hidden.draw(image) == 90).all()
    far = Poses(COCO, value.keypoints * 1e7, np.ones((1, 17)), np.ones(1), value.boxes)
    far.draw(image)


def test_truth_and_row():
    target = {"keypoints": np.zeros((2, 17, 3), np.float32)}
    target["keypoints"][0, :5] = (30, 40, 2)
    truth = poses().truth(target)
    assert len(truth) == 1 and truth.visible[0].sum() == 5
    assert poses(2, threshold=0.0).row(truth) == {
        "truth": 1, "prediction": 2, "best score": pytest.approx(float(poses(2).scores[0])),
    }  # fmt: skip
