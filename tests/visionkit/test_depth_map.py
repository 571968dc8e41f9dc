"""Depth maps and cameras: json, files, drawing, points in space."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from visionkit.camera import CameraIntrinsics, ply, point_cloud
from visionkit.drawing.depth_map import color_table, colors, shown_range, ticks
from visionkit.errors import DataError, UsageError
from visionkit.predictions import DepthMap, Prediction


def depth(size=(48, 64)) -> np.ndarray:
    values = np.random.default_rng(0).random(size, dtype=np.float32) * 6 + 0.5
    values[:5, :7] = 0
    return values


def test_png_is_in_millimeters_and_npy_in_meters():
    prediction = DepthMap(depth(), bounds=(0.1, 10.0))
    with Image.open(io.BytesIO(prediction.png())) as image:
        codes = np.asarray(image)
        assert image.text["unit"] == "0.001 m"
    assert codes.dtype == np.uint16
    np.testing.assert_allclose(codes / 1000, depth(), atol=0.0005001)
    assert (codes[:5, :7] == 0).all() and (codes[5:] > 0).all()
    np.testing.assert_array_equal(np.load(io.BytesIO(prediction.npy())), depth())


def test_what_is_too_far_for_millimeters_is_written_as_kitti_does():
    far = DepthMap(depth() * 12, bounds=(1.0, 80.0))
    with Image.open(io.BytesIO(far.png())) as image:
        np.testing.assert_allclose(np.asarray(image) / 256, depth() * 12, atol=0.5 / 256 + 1e-6)
        assert image.text["unit"] == "0.00390625 m"


@pytest.mark.parametrize(
    "prediction", [DepthMap(depth(), bounds=(0.1, 10.0)), DepthMap(depth(), metric=False), DepthMap(depth() * 0)]
)
def test_json_gives_an_equal_map_back_and_is_compact(prediction):
    text = json.dumps(prediction.to_json(), allow_nan=False)
    again = Prediction.from_json(json.loads(text))
    assert again == prediction and again.metric == prediction.metric and again.bounds == prediction.bounds
    assert len(text) < 4 * prediction.values.size + 500
    np.testing.assert_allclose(again.values, prediction.values, atol=prediction.step / 2 + 1e-6)


def test_maps_differ_where_their_codes_do():
    values = np.round(depth(), 2)
    prediction = DepthMap(values)
    assert prediction == DepthMap(values * np.float32(1.000001))
    assert prediction != DepthMap(values * np.float32(1.01))
    assert prediction != DepthMap(values, metric=False)


@pytest.mark.parametrize(
    "values", [np.array([[np.nan]]), np.array([[-1.0]]), np.array([[np.inf]]), np.zeros((0, 3)), np.zeros(3)]
)
def test_values_that_cannot_be_are_refused(values):
    with pytest.raises(ValueError, match="depth map"):
        DepthMap(values)


def test_a_row_compares_with_what_was_measured():
    truth = DepthMap(depth()).truth({"depth": np.where(depth() > 3, np.nan, depth())})
    assert truth is not None and (truth.values[depth() > 3] == 0).all()
    row = DepthMap(depth() * np.float32(1.1)).row(truth)
    assert row["abs_rel"] == pytest.approx(0.1, abs=1e-5) and row["delta1"] == 1.0


# ---------------------------------------------------------------------- drawing


def test_near_is_bright_and_what_is_unknown_is_gray():
    values = np.array([[0.0, 1.0, 2.0, 4.0]], dtype=np.float32)
    shown = colors(DepthMap(values, shown=(1.0, 4.0)))[0].astype(int)
    light = shown.sum(axis=1)
    assert len(set(shown[0])) == 1
    assert light[1] > light[2] > light[3]
    table = color_table().astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(table) <= 1.5).all() and table[0] - table[-1] > 150, "lightness falls evenly"


def test_truth_is_drawn_on_the_scale_of_the_prediction():
    prediction = DepthMap(depth())
    truth = prediction.truth({"depth": depth() * 2})
    assert shown_range(truth) == shown_range(prediction)


@pytest.mark.parametrize(("low", "high"), [(0.9, 2.7), (0.3, 80.0), (2.0, 2.1), (1.0, 10.0), (0.02, 0.05)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 5 and all(low <= tick <= high for tick in found)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (480, 640), (64, 48)])
def test_every_size_is_drawn(size):
    for prediction in (DepthMap(depth(size)), DepthMap(depth(size), metric=False), DepthMap(depth(size) * 0)):
        drawn = prediction.draw(np.zeros((*size, 3), np.uint8))
        assert drawn.dtype == np.uint8 and drawn.shape[0] % size[0] == 0


# ---------------------------------------------------------------------- cameras


def test_points_project_back_onto_their_pixels():
    camera = CameraIntrinsics(585.0, 580.0, 30.5, 22.0)
    points = camera.points(depth())
    known = depth() > 0
    x = points[..., 0][known] / points[..., 2][known] * camera.fx + camera.cx
    y = points[..., 1][known] / points[..., 2][known] * camera.fy + camera.cy
    rows, columns = np.nonzero(known)
    np.testing.assert_allclose(x, columns + 0.5, atol=1e-3)
    np.testing.assert_allclose(y, rows + 0.5, atol=1e-3)


def test_the_ply_holds_what_is_known_in_color():
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    points, paint = point_cloud(depth(), image, CameraIntrinsics.of_view((48, 64), 60))
    data = ply(points, paint)
    head, _, body = data.partition(b"end_header\n")
    assert f"element vertex {48 * 64 - 35}\n".encode() in head and len(body) == 15 * (48 * 64 - 35)
    rows = np.frombuffer(body, dtype=[("place", "<f4", 3), ("color", "u1", 3)])
    np.testing.assert_array_equal(rows["place"][:, 2], depth()[depth() > 0])
    np.testing.assert_array_equal(rows["color"], image[depth() > 0])
    with pytest.raises(UsageError, match="must agree"):
        point_cloud(depth(), image[:-1], CameraIntrinsics.of_view((48, 64)))


def test_cameras_are_read_from_words_and_matrices(tmp_path):
    assert CameraIntrinsics.parse("585,585,320,240") == CameraIntrinsics(585, 585, 320, 240)
    (tmp_path / "k.txt").write_text("585.0\t0 320\n0 580 240\n0 0 1\n")
    assert CameraIntrinsics.parse(str(tmp_path / "k.txt")) == CameraIntrinsics(585, 580, 320.5, 240.5)
    (tmp_path / "bad.txt").write_text("hello")
    with pytest.raises(DataError, match="no intrinsics"):
        CameraIntrinsics.parse(str(tmp_path / "bad.txt"))
    for text in ("1,2,3", "0,585,320,240", "nowhere.txt"):
        with pytest.raises(UsageError, match="fx,fy,cx,cy"):
            CameraIntrinsics.parse(text)
    assert CameraIntrinsics.of_view((240, 320), 90).fx == pytest.approx(160)


def test_the_files_of_a_prediction(tmp_path):
    from visionkit.images import ImageSource

    prediction, image = DepthMap(depth()), np.zeros((48, 64, 3), np.uint8)
    written = prediction.save(tmp_path / "new" / "a.b")
    assert [path.name for path in written] == ["a.b.png", "a.b.npy"]
    points = prediction.points(ImageSource(image), CameraIntrinsics.of_view((48, 64)))
    assert points is not None and points.startswith(b"ply\n")
    np.testing.assert_array_equal(np.load(written[1]), prediction.values)
    relative = DepthMap(depth(), metric=False)
    assert relative.points(ImageSource(image), CameraIntrinsics.of_view((48, 64))) is None
