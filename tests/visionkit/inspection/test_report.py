"""Reports: every format has the same numbers, and two networks are compared by ratios."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from visionkit.inspection import Report, inspect_network
from visionkit.inspection.comparison import compare
from visionkit.inspection.report import FORMATS


def _report(channels: int = 8) -> Report:
    network = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return inspect_network(network, [torch.zeros(1, 3, 16, 16)], f"net{channels}")


def test_sums() -> None:
    report = _report()
    assert report.sums() == {
        "parameters": 8 * 27 + 8,
        "multiply-adds": 64 * 8 * 27,
        "activation bytes": 4 * (3 * 256 + 2 * 8 * 64 + 8),
        "weight bytes": 4 * (8 * 27 + 8),
    }
    assert replace(report, flops=True).sums()["FLOPs"] == 2 * 64 * 8 * 27
    assert [layer.name for layer in report.largest()["parameters"]] == ["0"]
    first = report.kinds()[0]
    assert (first["kind"], first["operation fraction"]) == ("convolution", 1.0)


@pytest.mark.parametrize("format", FORMATS)
def test_formats(format: str) -> None:
    report = _report()
    text = report.text(format)
    if format == "json":
        record = json.loads(text)
        assert record["multiply-adds"] == 13_824 and record["layers"][0]["receptive field"] == "3x3"
        assert record["layers"][2]["whole image"] is True and len(record["notes"]) == 3
    elif format == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["layer"] for row in rows] == ["0", "1", "2"]
        assert rows[0]["multiply-adds"] == "13824" and rows[0]["output"] == "8x8x8" and rows[0]["center"] == "0.5x0.5"
    else:
        for part in ("net8", "3x16x16", "13,824", "convolution", "One multiply-add is", "2.0 KiB", "whole", "1 layers"):
            assert part in text, part
        assert "ReLU" not in text and "FLOPs are twice" in replace(report, flops=True).text(format)
    assert len(report.text("markdown", every=True)) > len(report.text("markdown"))


def test_names_are_escaped_in_html() -> None:
    assert "<b>" not in replace(_report(), name="<b>").text("html")


def test_comparison() -> None:
    one, two = _report(8), _report(16)
    record = json.loads(compare(one, two, "json"))
    rows = {row["quantity"]: row for row in (*record["sums"], *record["kinds"])}
    assert rows["multiply-adds"] == {"quantity": "multiply-adds", "first": 13_824, "second": 27_648, "ratio": 2.0}
    assert rows["parameters of convolution"]["ratio"] == 2.0
    text = compare(one, two)
    assert "net8" in text and "27,648" in text and "2.000" in text
    assert compare(one, two, "csv").startswith("quantity,net8,net16,ratio\n")
