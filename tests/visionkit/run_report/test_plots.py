"""Charts as images: the right ticks, the right places, nothing lost at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visionkit.run_report.charts import Bars, Curves, is_matrix
from visionkit.run_report.curves import draw_curves
from visionkit.run_report.evaluation import draw_table, write_csv
from visionkit.run_report.history import History
from visionkit.run_report.plots import COLORS, Line, Panel, draw_bars, draw_matrix, draw_panel, number_text, ticks


def close(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """Where a color is: (n, 2) of row and column."""
    return np.argwhere(np.abs(np.asarray(image).astype(int) - color).sum(axis=2) < 12)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (3, 3, [3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_are_short():
    given = (0.25, 1500, 20000, 3e6, 1e-5, 0.123456, 7)
    assert [number_text(v) for v in given] == ["0.25", "1,500", "20k", "3M", "1e-05", "0.123", "7"]


def test_a_line_runs_from_corner_to_corner():
    image = draw_panel(Panel("t", "x", "y", [Line("", [0, 10], [0, 1], COLORS[1])], y_limits=(0, 1)))
    places = close(image, COLORS[1])
    first, last = places[places[:, 1].argmin()], places[places[:, 1].argmax()]
    assert first[0] > last[0], "what grows goes up"
    assert last[1] > image.width - 30 and first[1] < 80


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0], [1e-9, 1e9], [-1.0, 2.0]])
def test_any_values_give_a_chart(values):
    steps = list(range(1, len(values) + 1))
    for log in (False, True):
        draw_panel(Panel("t", "x", "y", [Line("a", steps, values)], log_y=log, log_x=log))
    draw_panel(Panel("t", "x", "y", []))


def test_a_matrix_has_its_largest_fraction_darkest():
    counts = np.array([[9, 1], [2, 8]])
    image = draw_matrix("t", ["cat", "dog"], ["cat", "dog"], counts)
    darkest = close(image, tuple((255 - 0.9 * (255 - np.array(COLORS[0]))).round().astype(int)))
    lightest = close(image, tuple((255 - 0.1 * (255 - np.array(COLORS[0]))).round().astype(int)))
    assert len(darkest) > 500 and len(lightest) > 500
    assert darkest[:, 1].mean() < lightest[:, 1].mean(), "truth by row, prediction by column"
    wide = draw_matrix("t", [f"class {k}" for k in range(200)], [f"class {k}" for k in range(200)], np.eye(200))
    assert wide.width < 3200


def test_bars_state_what_was_not_measured_and_show_the_lowest_of_many():
    draw_bars("t", [("a", 0.5), ("b", -1.0), ("c", float("nan")), ("long name " * 20, 1.0)])
    assert draw_bars("t", [(str(k), k / 500) for k in range(500)]).height < 1600


def test_which_tables_are_matrices():
    assert is_matrix([{"truth": "a", "a": 1, "b": 0}, {"truth": "b", "a": 0, "b": 1}])
    assert is_matrix([{"truth": "a", "a": 1, "nothing": 0}])
    assert not is_matrix([{"class": "a", "precision": 1.0, "recall": 0.5}])
    assert not is_matrix([])


def test_tables_are_drawn_as_declared():
    rows = [{"recall": k / 10, **{f"c{n}": 1 - k / 10 for n in range(12)}} for k in range(11)]
    assert draw_table("precision-recall", rows, Curves("recall", "precision"), "val") is not None
    assert draw_table("precision-recall", [{"recall": 0.0, "a": -1.0}], Curves("recall", "precision"), "val") is None
    assert draw_table("per class", [{"class": "a", "iou": 0.5}], Bars("class", "iou"), "val") is not None
    assert draw_table("per class", [{"class": "a", "iou": 0.5}], None, "val") is None


def test_curves_of_a_run_mark_the_best(tmp_path):
    history = History(tmp_path / "report" / "curves.csv")
    for step in (10, 20, 30):
        history.add(step, 0, {"train/loss": 1 / step, "lr/a": 1e-3, "lr/b": 1e-3})
        history.add(
            step, 0, {"val/loss": 1.0, "val/rmse": 5 - abs(step - 20), "val/ap_small": -1.0, "val/x": float("nan")}
        )
    drawn = draw_curves(history.series(), "val/rmse", "min")
    assert drawn is not None and drawn.width == 1120
    assert draw_curves({}, "val/rmse", "min") is None
    history.write()
    history.add(40, 1, {"train/loss": 0.1})
    history.write()
    again = History(history.path)
    again.go_on(20)
    assert {row[0] for row in again.rows} == {10, 20}, "what came after the checkpoint is computed again"
    again.add(30, 1, {"train/loss": 0.5})
    again.write()
    assert len(history.path.read_text().splitlines()) == 1 + 2 * 6 + 1
    history.path.write_text("step,epoch,name,value\n10,0,train/loss\n")
    again.go_on(20)
    assert again.rows == []


def test_a_table_of_rows_with_different_columns(tmp_path):
    write_csv(tmp_path / "a.csv", [{"image": "a,b", "x": 1}, {"image": "c", "y": 2}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["image,x,y", '"a,b",1,', "c,,2"]
