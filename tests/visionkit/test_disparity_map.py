"""Disparity maps: what they hold, their files, their drawing and the depth that follows from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.disparity_files import read_disparity
from visionkit.camera import CameraIntrinsics
from visionkit.drawing.disparity_map import marks
from visionkit.errors import UsageError
from visionkit.predictions import DisparityMap, Prediction


def ramp(most: float = 64.0) -> DisparityMap:
    values = np.linspace(0.25, most, 40 * 60, dtype=np.float32).reshape(40, 60)
    values[:3, :5] = 0
    return DisparityMap(values)


@pytest.mark.parametrize("most", [3.0, 64.0, 255.9, 800.0])
def test_json_and_files_give_the_map_back(most: float, tmp_path: Path) -> None:
    found = ramp(most)
    again = Prediction.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found and np.abs(again.values - found.values).max() <= found.step / 2
    assert found.step <= max(most / 32767, 2**-12)
    written = {path.suffix: path for path in found.save(tmp_path / "a.left")}
    assert sorted(path.name for path in written.values()) == ["a.left.pfm", "a.left.png"]
    assert np.array_equal(read_disparity(written[".pfm"]), found.values)
    if most < 256:
        codes = np.asarray(Image.open(written[".png"]))
        assert codes.dtype == np.uint16 and np.abs(codes / 256 - found.values).max() <= 1 / 512
        assert np.abs(read_disparity(written[".png"]) - found.values).max() <= 1 / 512
    with Image.open(io.BytesIO(found.png())) as image:
        assert image.info["unit"].endswith(" px") and np.array_equal(np.asarray(image) > 0, found.known)


def test_depth_is_focal_length_times_baseline_over_disparity() -> None:
    values = np.array([[10.0, 20.0, 0.0]], np.float32)
    camera = CameraIntrinsics(500.0, 480.0, 1.5, 0.5)
    assert np.array_equal(DisparityMap(values).depth(camera, 0.2).values, np.array([[10.0, 5.0, 0.0]], np.float32))
    # Middlebury's doffs: the axes are 10 px apart.
    assert np.array_equal(
        DisparityMap(values).depth(camera, 0.2, 10.0).values[0, :2], np.array([5, 10 / 3], np.float32)
    )
    with pytest.raises(UsageError, match="baseline 0"):
        DisparityMap(values).depth(camera, 0.0)


def test_what_it_states_and_refuses() -> None:
    assert DisparityMap(np.array([[2, 4, 6, 0]], np.float32)).text() == "2.0 to 6.0 px, half of it below 4.0 px"
    assert DisparityMap(np.zeros((2, 2))).text() == "no disparity"
    for values in (np.full((2, 2), np.nan), np.full((2, 2), -1.0), np.zeros((2, 2, 1))):
        with pytest.raises(ValueError):
            DisparityMap(values)
    truth = DisparityMap(np.array([[3.0, 3.0, 0.0]])).truth({"disparity": np.array([[1.0, np.inf, 9.0]])})
    assert truth is not None and truth.values.tolist() == [[1.0, 0.0, 9.0]]
    row = DisparityMap(np.array([[2.0, 7.0, 13.0]])).row(truth)
    assert row == {"median": 7.0, "epe": 2.5, "bad3": 0.5}
    assert DisparityMap(np.full((2, 2), 10.0)).difference(DisparityMap(np.full((2, 2), 10.05))).same


def test_near_is_bright_and_the_scale_has_round_numbers() -> None:
    found = ramp()
    assert [text for _, text in marks(found)] == ["20 px", "40 px", "60 px"]
    drawn = found.draw(np.zeros((40, 60, 3), np.uint8))
    assert drawn[-1, 0].sum() > drawn[drawn.shape[0] // 2, 0].sum() > drawn[40, 0].sum()
    assert DisparityMap(np.zeros((4, 4))).draw(np.zeros((4, 4, 3), np.uint8)).std() == 0
