"""`visionkit inspect`: reports, comparisons, timing and the drawing of a field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ui.cli import main


def test_a_report_on_the_terminal_and_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "test_resnet", "--size", "64", "96"]) == 0
    page = capsys.readouterr().out
    assert "input 3x64x96" in page and "One multiply-add is" in page and "receptive field" in page
    out = tmp_path / "layers.json"
    assert main(["inspect", "test_resnet", "--format", "json", "--flops", "--out", str(out)]) == 0
    record = json.loads(out.read_text("utf-8"))
    assert record["FLOPs"] == sum(row["FLOPs"] for row in record["layers"]) and capsys.readouterr().out == ""
    assert main(["inspect", "test_resnet", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_two_networks_and_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "test_resnet", "--compare", "test_convnext", "--size", "64", "64", "--time"]) == 0
    page = capsys.readouterr().out
    assert "ratio" in page and page.count("median") == 2 and " ms" in page


def test_the_effective_field_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "field.png"
    assert main(["inspect", "test_resnet", "--size", "64", "64", "--effective", str(out), "--layer", "layer1"]) == 0
    drawn = np.asarray(Image.open(out))
    assert drawn.shape == (448, 448, 3) and (drawn == 255).all(-1).any(), "the theoretical field is a rectangle"
    assert "effective field" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test_resnet", "--layer", "layer1"], "--effective"),
        (["test_resnet", "--effective", "a.jpg"], ".png"),
        (["test_resnet", "--size", "0", "5"], "at least 1"),
        (["test_resnet", "--effective", "new.png", "--layer", "layer9"], "'layer4'"),
        (["test_resnet", "--effective", "new.png", "--layer", "fc"], "not a map"),
        (["resnett18"], "'resnet18'"),
    ],
)
def test_what_cannot_be_inspected(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *arguments]) == 2
    assert message in capsys.readouterr().err
