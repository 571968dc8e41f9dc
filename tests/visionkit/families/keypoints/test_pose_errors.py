"""Keypoints of a single kind of error are attributed to it entirely, and mending them makes the poses right."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.families.keypoints.analysis import KeypointAnalysis
from visionkit.families.keypoints.error_breakdown import KINDS, break_down
from visionkit.families.keypoints.oks import PoseResults, Truth
from visionkit.skeleton import Skeleton

SKELETON = Skeleton("four", ("nose", "left", "right", "foot"), flip_pairs=(("left", "right"),), sigmas=(0.05,) * 4)
SIGMAS = SKELETON.oks_sigmas()
AREA = 100.0**2
SHARP = 2 * 0.05 * 100  # pixels at which a keypoint's similarity is exp(-1/2)
ONE = np.array([[50, 10], [20, 50], [80, 50], [50, 100]], dtype=np.float64)
OTHER = ONE + np.array([300, 0])


def people(*places):
    keypoints = np.stack([np.column_stack([each, np.full(4, 2)]) for each in places])
    count = len(places)
    boxes = np.concatenate([keypoints[:, :, :2].min(axis=1), keypoints[:, :, :2].max(axis=1)], axis=1)
    return Truth(np.zeros(count, np.int64), keypoints, np.full(count, AREA), np.zeros(count, bool), boxes)


def found(*places, scores=None):
    count = len(places)
    given = np.linspace(0.9, 0.8, count) if scores is None else np.array(scores)
    return PoseResults(np.zeros(count, np.int64), np.stack(places), given)


def moved(places, keypoint, to):
    out = places.copy()
    out[keypoint] = to
    return out


SINGLE = {
    "jitter": moved(ONE, 3, ONE[3] + (SHARP, 0)),
    "inversion": moved(moved(ONE, 1, ONE[2]), 2, ONE[1]),
    "swap": moved(ONE, 3, OTHER[3]),
    "miss": moved(ONE, 3, (50, 180)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_a_single_kind_are_attributed_to_it_entirely(kind):
    result = break_down(found(SINGLE[kind], OTHER), people(ONE, OTHER), SKELETON, SIGMAS)
    wrong = 2 if kind == "inversion" else 1
    assert {each: result.count(each) for each in KINDS} == {each: wrong * (each == kind) for each in KINDS}
    assert not result.missed.any() and not result.extra.any()
    assert result.ap < 1 and result.ap + result.costs[kind] == pytest.approx(1)
    assert all(result.costs[each] == 0 for each in (*KINDS, "missed person", "extra person") if each != kind)
    rows = {row["error"]: row for row in result.rows()}
    assert rows[kind]["of keypoints"] == wrong / 8


def test_people_who_are_not_found_and_people_who_are_not_there():
    missed = break_down(found(ONE), people(ONE, OTHER), SKELETON, SIGMAS)
    assert missed.missed.tolist() == [False, True] and not any(missed.count(kind) for kind in KINDS)
    assert missed.ap + missed.costs["missed person"] == pytest.approx(1)
    extra = break_down(found(ONE + np.array([0, 400]), ONE, scores=[0.9, 0.5]), people(ONE), SKELETON, SIGMAS)
    assert extra.extra.tolist() == [True, False]
    assert extra.ap == pytest.approx(0.5) and extra.costs["extra person"] == pytest.approx(0.5)


def test_a_second_pose_of_one_person_takes_no_place_from_another_person():
    # Two poses of one person, the second of which is a little like the other person, whose own pose scores lowest.
    near = ONE + np.array([25, 0])
    other = ONE + np.array([40, 0])
    result = break_down(found(ONE, near - 20, other, scores=[0.9, 0.8, 0.3]), people(ONE, other), SKELETON, SIGMAS)
    assert result.found.tolist() == [0, 2] and result.extra.tolist() == [False, True, False]


def test_keypoints_without_a_label_have_no_kind():
    true = people(ONE)
    true.keypoints[0, 3, 2] = 0
    result = break_down(found(SINGLE["miss"]), true, SKELETON, SIGMAS)
    assert result.kind.tolist() == [[0, 0, 0, -1]] and result.ap == pytest.approx(1)
    per_keypoint = result.per_keypoint(SKELETON)
    assert [row["labeled"] for row in per_keypoint] == [1, 1, 1, 0]
    assert per_keypoint[0]["good"] == 1


def test_images_are_ranked_by_their_similarity():
    analysis = KeypointAnalysis(SKELETON)
    second, first = people(ONE), people(ONE)
    joined = Truth(*(np.concatenate([getattr(a, k), getattr(b, k)]) for k, a, b in _pairs(first, second)))
    joined.image[1] = 7
    results = found(ONE, SINGLE["miss"])
    results.image[1] = 7
    analysis.take({0: "good", 7: "bad"}, results, joined)
    good, bad = analysis.rows
    assert (good["image"], bad["image"]) == ("good", "bad")
    assert good["OKS"] == pytest.approx(1) and bad["OKS"] == pytest.approx(0.75)
    assert analysis.badness(bad) > analysis.badness(good)
    assert analysis.values(np.array([0]))["ap"] == pytest.approx(1)
    assert analysis.tables()["error breakdown"][KINDS.index("miss")]["count"] == 1


def _pairs(first, second):
    return [(name, first, second) for name in ("image", "keypoints", "area", "crowd", "boxes")]
