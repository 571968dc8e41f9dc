"""Tables and lines fit a terminal of 80 columns, and no number in them is cut."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from visionkit.tables import is_confusion, largest_confusions, number, one_line, print_metrics, print_table


def printed(show, *given, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    show(*given, console)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines()), text
    assert "…" not in text
    return text


def matrix(size: int) -> list[dict]:
    names = [f"class number {k}" for k in range(size)]
    return [{"truth": a, **{b: 100 * (k == n) + (k * n) % 7 for n, b in enumerate(names)}} for k, a in enumerate(names)]


@pytest.mark.parametrize(
    ("value", "shown"), [(-1, "n/a"), (float("nan"), "n/a"), (0.12345, "0.1235"), (-0.5, "-0.5000")]
)
def test_a_number_that_states_nothing_is_not_available(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("columns", [1, 5, 12, 30])
def test_no_number_is_cut(columns, width):
    names = [f"metric_{k}" for k in range(columns)]
    rows = [
        {"class": "a long name " * 5 + str(r), **dict.fromkeys(names, 1234.567 + r), "n": 10**9 + r} for r in range(4)
    ]
    text = printed(print_table, "per class", rows, width=width)
    assert len(re.findall(r"\b123[4-7]\.567\b", text)) == 4 * columns
    assert all(str(10**9 + r) in text for r in range(4)) and all(name in text for name in names)


def test_a_small_confusion_matrix_is_printed_whole():
    rows = [{"truth": a, "x": 5, "y": 2} for a in ("x", "y")]
    assert is_confusion(rows)
    assert "largest" not in printed(print_table, "confusion", rows)


@pytest.mark.parametrize("width", range(30, 100))
def test_a_table_keeps_the_names_of_its_rows(width):
    names = ["person", "circle", "square", "triangle", "star", "cross", "ring", "heart", "nothing"]
    rows = [{"truth": a, **dict.fromkeys(names, 1)} for a in names]
    text = printed(print_table, "confusion", rows, width=width)
    assert "truth " in text and ("prediction" in text or all(re.search(rf"^ +{name} ", text, re.M) for name in names))
    text = printed(print_table, "per class", rows[:-1], width=width)  # in pieces, since it is no matrix
    assert "truth " in text and all(re.search(rf"^ +{name} ", text, re.M) for name in names[:-1])


@pytest.mark.parametrize("size", [8, 40])
def test_a_wide_confusion_matrix_becomes_its_largest_confusions(size):
    text = printed(print_table, "confusion", matrix(size))
    assert f"confusion: the 10 largest of {size} classes" in text
    assert len(text.strip().splitlines()) <= 14
    counts = [pair["count"] for pair in largest_confusions(matrix(size))]
    assert counts == sorted(counts, reverse=True) and len(counts) == 10
    assert all(pair["truth"] != pair["prediction"] for pair in largest_confusions(matrix(size)))


def test_a_perfect_wide_matrix_states_so():
    names = [f"class number {k}" for k in range(9)]
    rows = [{"truth": a, **{b: int(a == b) for b in names}} for a in names]
    assert "no class is taken for another" in printed(print_table, "confusion", rows)


def test_a_long_table_is_named():
    rows = [{"rank": k, "found": 0.5} for k in range(31)]
    assert "roc: 31 rows" in printed(print_table, "roc", rows)


def test_metrics_are_listed_however_many_they_are():
    assert "metric 39" in printed(print_metrics, {f"metric {k}": k / 40 for k in range(40)})


def test_metrics_are_listed_with_what_is_not_available():
    text = printed(print_metrics, {"test/ap": 0.5, "test/ap_small": -1.0, "test/" + "long" * 12: 0.25})
    assert re.search(r"ap_small +n/a", text) and "0.2500" in text


def test_names_are_not_taken_for_markup():
    assert "[red]" in printed(print_table, "[bold]", [{"class": "[red]", "f1": 1.0}])


@pytest.mark.parametrize("width", [72, 80, 120])
def test_a_line_fits_and_begins_with_what_is_monitor(width):
    values = {
        f"val/{head}/{name}": 0.123456 for head in ("objects", "depth") for name in ("loss", "ap", "ap_small", "f1")
    }
    values |= {"val/score": 0.5, "val/loss": 1.25, "val/ap_large": -1.0}
    line = one_line(values, "epoch 3/30  validation", "val/score", width)
    assert line.startswith("epoch 3/30  validation  val/score 0.5") and "val/loss 1.25" in line
    assert len(line) <= width and re.search(r"\+\d+ more$", line) and "-1" not in line


def test_a_short_line_is_whole():
    line = one_line({"val/loss": 0.5, "val/top1": 0.75}, "epoch 1/2  validation", "val/top1")
    assert line == "epoch 1/2  validation  val/top1 0.75  val/loss 0.5"
    assert one_line({"val/ap": -1.0}, "epoch 1/2", "val/ap") == "epoch 1/2  val/ap n/a"
