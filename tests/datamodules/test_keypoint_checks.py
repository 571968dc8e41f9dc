"""Keypoints that nobody could train on are refused or counted; categories without keypoints are not people."""

from __future__ import annotations

import numpy as np
import pytest

from tests.datamodules.test_pose_readers import coco
from visionkit.crops import PersonCrop
from visionkit.errors import DataError


def change_all(function):
    """Changes the (17, 3) keypoints of every annotation that has some."""

    def change(top):
        for each in top["annotations"]:
            if each.get("keypoints"):
                values = function(np.array(each["keypoints"], dtype=float).reshape(17, 3))
                each["keypoints"] = values.ravel().tolist()

    return change


def scaled(x: float, y: float):
    return change_all(lambda values: values * [x, y, 1])


def at_origin(values):
    values[:, :2] = 0
    values[:, 2] = 2
    return values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scaled(1 / 100, 1 / 80), r"\d+ of \d+ labeled keypoints lie between 0 and 1, so they seem to be fractions"),
        (scaled(10, 10), r"lie far outside the box of their person \(.*keypoint \d+ at .*both in pixels"),
        (change_all(lambda values: values + np.array([400, 0, 0])), "lie far outside the box of their person"),
        (change_all(at_origin), "none of 3 people has a labeled keypoint.*at 0, 0"),
        (change_all(lambda values: values * [1, 1, 0]), "none of 3 people has a labeled keypoint"),
    ],
)
@pytest.mark.parametrize("crop", [None, PersonCrop()])
def test_an_impossible_kind_of_keypoints_is_refused(tmp_path, change, said, crop):
    with pytest.raises(DataError, match=said):
        coco(tmp_path, change, crop=crop).samples("train")


def test_single_impossible_keypoints_are_counted(tmp_path):
    def change(top):
        first = top["annotations"][0]["keypoints"]
        first[0:3] = 0, 0, 2
        first[3:6] = 500, 20, 2

    data = coco(tmp_path, change)
    found = data.samples("train")[0].target["keypoints"][0]
    assert found[0].tolist() == [0, 0, 0]
    passed_over = data.summary("train").passed_over
    assert passed_over["keypoints labeled at 0, 0, which are taken as not labeled"] == 1
    assert passed_over["keypoints outside their image"] == passed_over["keypoints far outside their box"] == 1


def test_what_is_not_labeled_may_be_no_number(tmp_path):
    """Trackers write NaN or null for keypoints that they did not find."""

    def change(top):
        top["annotations"][0]["keypoints"][3:6] = float("nan"), None, 0
        top["annotations"][1]["keypoints"] = []

    target = coco(tmp_path, change).samples("val")[0].target
    assert target["keypoints"][0, 1].tolist() == [0, 0, 0] and not target["keypoints"][1].any()
    for wrong in (float("nan"), None, 1e300, 10**400, "a", [3]):
        with pytest.raises(DataError, match="annotation 1: "):
            coco(tmp_path, lambda top, wrong=wrong: top["annotations"][0]["keypoints"].__setitem__(0, wrong)).samples(
                "val"
            )
    with pytest.raises(DataError, match="are these x, y alone"):
        coco(tmp_path, lambda top: top["annotations"][0].update(keypoints=[5] * 34)).samples("val")


def test_categories_without_keypoints_are_not_people(tmp_path):
    def change(top):
        top["categories"].append({"id": 3, "name": "car"})
        car = {"image_id": 1, "category_id": 3, "bbox": [1, 1, 50, 20], "iscrowd": 0}
        top["annotations"] += [car | {"id": 90}, car | {"id": 91, "keypoints": [0] * 51}]

    data = coco(tmp_path, change)
    assert [len(sample.target["boxes"]) for sample in data.samples("train")] == [2, 2]
    assert data.summary("train").passed_over == {"objects of categories without keypoints (car)": 2}
