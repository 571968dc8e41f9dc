"""Motion in space: equal to the drawn one, and KITTI's measures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from visionkit.errors import DataError
from visionkit.families.matching.scene_flow import outliers, scene_flow
from visionkit.synthetic import ClipSettings
from visionkit.synthetic.pairs import draw_scene_flow


@pytest.mark.parametrize("index", [0, 5, 9])
def test_drawn_motion_is_found_again(index: int) -> None:
    pair = draw_scene_flow(0, index, ClipSettings(size=(64, 80), length=2, camera_speed=0.1), (0.2, 0.2))
    reach = pair.before.camera.fx * pair.before.baseline
    depths = reach / pair.before.disparity, reach / pair.after.disparity
    found = scene_flow(*depths, pair.flow, pair.before.camera)
    seen = found.known & ~pair.occluded
    error = np.abs(found.motion - pair.motion).max(axis=0)[seen]
    assert seen.mean() > 0.8 and np.quantile(error, 0.95) < 0.02 and np.median(error) < 1e-3
    assert np.abs(pair.motion).max() > 0.02


def test_what_leaves_or_was_not_measured_is_not_known() -> None:
    camera = draw_scene_flow(0, 0, ClipSettings(size=(64, 80), length=2), (0.2, 0.2)).before.camera
    depth, after, flow = np.full((4, 6), 2.0), np.full((4, 6), 2.0), np.zeros((2, 4, 6))
    depth[0, 0], after[1, 1], flow[0, :, 5] = 0, 0, 3
    found = scene_flow(depth, after, flow, camera)
    expected = np.ones((4, 6), bool)
    expected[0, 0] = expected[1, 1] = False
    expected[:, 5] = False
    assert np.array_equal(found.known, expected) and not found.motion.any()
    with pytest.raises(DataError, match="they must agree"):
        scene_flow(depth, after[:2], flow, camera)


def test_outliers_by_hand() -> None:
    truth, flow = np.array([[10.0, 100, 100, 10]]), np.array([[[10.0, 100, 0, 0]], [[0.0, 0, 100, 0]]])
    first = truth + np.array([3.5, 3.5, 0, 0])  # 3.5 of 100 is less than 5 %
    second = truth + np.array([0, 0, 6, 0])
    moved = flow + np.array([[[0, 0, 0, 2.0]], [[0, 0, 0, 2.5]]])  # 3.2 pixels off nothing
    found = outliers((first, truth), (second, truth), (moved, flow), np.ones((1, 4), bool))
    assert found == {"D1": 0.25, "D2": 0.25, "Fl": 0.25, "SF": 0.75}
    assert outliers((first, truth), (second, truth), (moved, flow), np.array([[0, 1, 0, 0]], bool))["SF"] == 0
    assert set(outliers((first, truth), (second, truth), (moved, flow), np.zeros((1, 4), bool)).values()) == {0.0}
