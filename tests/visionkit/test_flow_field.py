"""Flow fields: json, files, drawing, rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visionkit.drawing.flow import color_table, colors, legend, wheel_colors
from visionkit.predictions import FlowField, Prediction
from visionkit.predictions.image import decode_png


def field(scale: float = 10.0) -> FlowField:
    rng = np.random.default_rng(0)
    valid = np.ones((30, 40), bool)
    valid[:4, :6] = False
    return FlowField(rng.normal(0, scale, (2, 30, 40)), valid)


@pytest.mark.parametrize("scale", [0.01, 10.0, 5000.0])
def test_json_gives_an_equal_field_back(scale: float) -> None:
    prediction = field(scale)
    again = Prediction.from_json(json.loads(json.dumps(prediction.to_json(), allow_nan=False)))
    assert isinstance(again, FlowField) and again == prediction
    np.testing.assert_allclose(again.values, prediction.values, atol=0.5001 * prediction.step)
    assert prediction.step == pytest.approx(max(1 / 64, np.abs(prediction.values).max() / 32767))
    assert again != FlowField(prediction.values)
    assert again != FlowField(prediction.values + 2 * np.float32(prediction.step), prediction.valid)


def test_summary_text_and_what_is_not_known() -> None:
    values = np.zeros((2, 1, 4), np.float32)
    values[:, 0] = [[3, 0, np.nan, 9], [4, 0, 0, 9]]
    prediction = FlowField(values, np.array([[True, True, False, False]]))
    facts = prediction.summary()
    assert (facts["mean"], facts["max"], facts["known"]) == (2.5, 5.0, 0.5)
    assert prediction.text() == "motion of 2.50 px in the mean and 5.00 px at most, known in 50% of the image"
    assert (prediction.values[:, 0, 2:] == 0).all()
    assert FlowField(values * 0, np.zeros((1, 4), bool)).text() == "no motion is known"
    with pytest.raises(ValueError, match="finite values where it is valid"):
        FlowField(values)
    for shape in ((2, 3), (3, 4, 4), (2, 0, 3)):
        with pytest.raises(ValueError, match="a flow field is"):
            FlowField(np.zeros(shape))


def test_files_are_middleburys_and_kittis(tmp_path: Path) -> None:
    prediction = FlowField(np.array([[[1.0, -600.0]], [[-0.5, 0.0]]]))
    written = prediction.save(tmp_path / "a.b")
    assert [path.name for path in written] == ["a.b.flo", "a.b.png"]
    codes = decode_png(written[1].read_bytes())
    assert codes.dtype == np.uint16 and codes[0, 0].tolist() == [32832, 32736, 1]
    assert codes[0, 1].tolist() == [0, 0, 0], "600 px do not fit"


def test_a_row_and_a_difference_by_hand() -> None:
    truth = FlowField(np.array([[[10.0, 10.0, 100.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]), np.array([[1, 1, 1, 0]], bool))
    ours = FlowField(np.array([[[10.0, 14.0, 104.0, 50.0]], [[0.0, 0.0, 3.0, 0.0]]]))
    row = ours.row(truth)
    assert row["epe"] == pytest.approx((0 + 4 + 5) / 3) and row["fl_all"] == pytest.approx(1 / 3)
    assert row["mean length"] == pytest.approx((10 + 14 + np.hypot(104, 3) + 50) / 4)
    found = ours.difference(FlowField(ours.values + np.float32(1e-3)))
    assert found.largest == pytest.approx(np.sqrt(2) * 1e-3 / np.hypot(104, 3), rel=1e-2) and found.same
    assert not ours.difference(FlowField(ours.values + 50)).same
    known = ours.truth({"flow": truth.values, "valid": truth.known})
    assert known == truth and known.reach == ours.reach, "both are drawn on one scale"
    assert ours.truth({"depth": 0}) is None


def test_colors_are_those_of_the_middlebury_coding() -> None:
    assert len(color_table()) == 55
    right, left, down, still, far = [1, 0], [-1, 0], [0, 1], [0, 0], [2, 0]
    vectors = np.array([[right, left, down, still, far]], np.float32).transpose(2, 0, 1)
    drawn = wheel_colors(vectors, 1.0)[0].tolist()
    assert drawn[0] == [255, 0, 0] and drawn[3] == [255, 255, 255] and drawn[4] == [191, 0, 0]
    assert drawn[1] == [0, 208, 255], "2/11 from cyan to blue"
    assert drawn[2] == [255, 229, 0], "13.5/15 from red to yellow"
    half = wheel_colors(vectors / 2, 1.0)[0, 0].tolist()
    assert half == [255, 127, 127]


def test_a_drawing_has_the_wheel_in_its_corner_and_black_where_nothing_is_known() -> None:
    prediction = field()
    drawn = prediction.draw(np.zeros((30, 40, 3), np.uint8))
    assert drawn.shape == (210, 280, 3) and not drawn[:28, :42].any()
    plain = colors(prediction)
    assert np.array_equal(drawn[:70, :100], plain.repeat(7, 0).repeat(7, 1)[:70, :100])
    assert not np.array_equal(drawn[-60:, -60:], plain.repeat(7, 0).repeat(7, 1)[-60:, -60:])
    small = np.zeros((10, 300, 3), np.uint8)
    assert legend(small, 1.0) is small
