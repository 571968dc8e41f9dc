"""Keypoints, mutual nearest neighbors and models of two views, on a photograph that was warped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from visionkit.drawing.image_matches import draw_matches
from visionkit.errors import UsageError
from visionkit.image_matching.keypoints import REACH, Keypoints, cut_patches, find_keypoints
from visionkit.image_matching.matching import fit_model, match_images, mutual_matches


@pytest.fixture(scope="module")
def views():
    """A photograph, a second view of it, and the homography between them."""
    first = np.ascontiguousarray(data.astronaut()[::2, ::2])
    size = first.shape[0]
    corners = np.float32([[0, 0], [size, 0], [size, size], [0, size]])
    moved = np.float32([[15, 10], [size - 30, 25], [size - 10, size - 15], [30, size - 35]])
    way = cv2.getPerspectiveTransform(corners - 0.5, moved - 0.5)
    second = (cv2.warpPerspective(first, way, (size, size)).astype(float) * 0.8 + 15).astype(np.uint8)
    return first, second, way


def apart(matches, way):
    """Pixels from where each point of the first image belongs."""
    points = np.concatenate([matches.first - 0.5, np.ones((len(matches), 1))], axis=1) @ way.T
    return np.linalg.norm(points[:, :2] / points[:, 2:] - (matches.second - 0.5), axis=1)


@pytest.mark.parametrize(("keypoints", "least"), [("sift", 60), ("orb", 60), ("gftt", 30)])
def test_a_homography_is_found_again(views, keypoints, least):
    first, second, way = views
    found = match_images(first, second, keypoints=keypoints, max_keypoints=400)
    assert found.inliers.sum() >= least and found.matrix is not None
    assert np.median(apart(found, way)[found.inliers]) < 1.5
    corners = np.array([[20.0, 20, 1], [200, 60, 1], [128, 220, 1]])
    true, ours = corners @ way.T, corners @ found.matrix.T
    assert np.abs(true[:, :2] / true[:, 2:] - ours[:, :2] / ours[:, 2:]).max() < 2
    record = found.to_json()
    assert record["inliers"] == found.inliers.sum() and len(record["matches"]) == len(found)
    drawn = draw_matches(found, first, second)
    assert drawn.shape == (256, 512, 3) and not np.array_equal(drawn[:, :256], first)


def test_a_fundamental_matrix_has_points_on_its_lines(views):
    found = match_images(*views[:2], model_kind="fundamental", max_keypoints=400)
    assert found.matrix is not None and found.inliers.sum() > 50
    ones = np.ones((int(found.inliers.sum()), 1))
    first, second = (np.concatenate([each[found.inliers], ones], axis=1) for each in (found.first, found.second))
    lines = first @ found.matrix.T
    distances = np.abs((second * lines).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert distances.max() <= 3.1


def test_images_without_anything_in_common(views):
    flat = np.full((60, 80, 3), 90, np.uint8)
    found = match_images(flat, views[0])
    assert len(found) == 0 and found.matrix is None and "no homography found" in found.text()
    assert found.to_json()["matches"] == [] and draw_matches(found, flat, views[0]).shape == (256, 336, 3)


def test_mutual_matches_by_hand():
    costs = np.array([[1.0, 5.0, 9.0], [0.5, 4.0, 4.5], [7.0, 6.0, 2.0], [np.inf, np.inf, np.inf]])
    # Row 0 prefers column 0, which prefers row 1; column 1 is nobody's best.
    pairs, kept = mutual_matches(costs)
    assert pairs.tolist() == [[1, 0], [2, 2]] and kept.tolist() == [0.5, 2.0]
    pairs, _ = mutual_matches(costs, ratio=0.3)  # .5 is below .3 x 4, 2 is not below .3 x 6
    assert pairs.tolist() == [[1, 0]]


def test_ransac_leaves_outliers_out():
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 100, (40, 2))
    second = first * 1.1 + (5, -3)
    second[30:] += 40
    matrix, inliers = fit_model(first, second, "homography")
    assert inliers.tolist() == [True] * 30 + [False] * 10
    assert np.allclose(matrix / matrix[2, 2], [[1.1, 0, 5], [0, 1.1, -3], [0, 0, 1]], atol=1e-6)
    assert fit_model(first[:3], second[:3], "homography")[0] is None


def test_a_patch_is_upright_and_at_the_size_of_its_keypoint():
    image = np.zeros((200, 200, 1), np.uint8)
    image[100:, :] = 200  # an edge below the middle
    for kind in ("sift", "gftt"):
        size = 64 / REACH[kind]
        for angle, bright in ((0, "below"), (90, "right"), (180, "above")):
            patch = cut_patches(image, Keypoints(kind, [cv2.KeyPoint(99.5, 99.5, size, angle)]), 64)[0, ..., 0]
            halves = {"below": patch[32:], "above": patch[:32], "right": patch[:, 32:]}
            assert abs(int(halves[bright].mean()) - 200) < 5 and patch.mean() == pytest.approx(100, abs=4)
    # Four times as large: the part of the image that is seen is reduced, not sampled.
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 1), dtype=np.uint8)
    cut = cut_patches(noise, Keypoints("gftt", [cv2.KeyPoint(200, 200, 32, 0)]), 64)
    assert cut.std() < noise.std() / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keypoints": "sitf"}, "did you mean 'sift'"),
        ({"model_kind": "affine"}, "model_kind 'affine'"),
        ({"ratio": 0.0}, "ratio 0 must be above 0"),
        ({"max_keypoints": 0}, "at least 1"),
    ],
)
def test_mistakes_are_named(views, options, message):
    with pytest.raises(UsageError, match=message):
        match_images(*views[:2], **options)


def test_keypoints_count_from_the_border():
    image = np.zeros((64, 64), np.uint8)
    image[20:28, 30:38] = 255
    positions = find_keypoints(image, "gftt", 4).positions
    assert np.abs(positions - (34, 24)).max() <= 4.6
