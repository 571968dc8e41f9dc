"""`visionkit analyze`: the folder it writes, what it prints, and that its numbers are those of `visionkit test`."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from tests.contracts.cases import build
from ui.cli import main
from visionkit.checkpoint import save_checkpoint

SCENES = ["-c", "scenes", "--data.count", "4", "--data.eval_count", "6", "--data.size", "[64,80]"]


@pytest.fixture
def detector(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "detector.ckpt"
    save_checkpoint(build("detection"), path)
    return path


def test_a_detector_on_scenes(detector, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "errors"
    argv = [str(detector), *SCENES, "--data.target", "boxes", "--out", str(out), "--worst", "2"]
    assert main(["analyze", *argv, "--wandb"]) == 0
    assert list((out / "wandb").glob("offline-run-*/run-*.wandb"))
    shown = capsys.readouterr().out
    assert "error breakdown" in shown and str(out / "report.html") in shown
    record = json.loads((out / "analysis.json").read_text())
    assert (record["task"], record["split"], record["images"]) == ("detection", "test", 6)
    assert len(record["worst images"]) == 2
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {"f1", "missed", "brightness", "objects"} <= rows[0].keys()
    assert {"error breakdown", "calibration", "slices", "per class", "confusion", "precision-recall"} <= (
        record["tables"].keys()
    )
    assert main(["test", "--ckpt_path", str(detector), *SCENES, "--data.target", "boxes", "--results",
                 str(tmp_path / "results.json")]) == 0  # fmt: skip
    assert record["metrics"] == pytest.approx(json.loads((tmp_path / "results.json").read_text())["metrics"])
    capsys.readouterr()
    assert main(["analyze", *argv]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_what_is_wrong_is_named(detector, tmp_path, capsys):
    assert main(["analyze", str(detector), "--slices", str(tmp_path / "none.csv")]) == 3
    assert "none.csv" in capsys.readouterr().err
    assert main(["analyze", str(detector)]) == 2
    assert "give DATA" in capsys.readouterr().err
    assert main(["analyze", str(detector), str(tmp_path / "nowhere.json")]) == 3
    assert "nowhere.json: no such file" in capsys.readouterr().err
    assert main(["analyze", str(detector), "scenesss"]) == 2
    assert "did you mean" in capsys.readouterr().err
