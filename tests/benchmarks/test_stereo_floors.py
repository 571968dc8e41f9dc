"""The table of stereo beside block matching: holes are filled with the background, and all get the same pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.stereo_floors import main
from tests.contracts.cases import build
from visionkit.checkpoint import save_checkpoint
from visionkit.families.matching.classical_stereo import filled


def test_holes_get_the_smaller_side() -> None:
    holes = np.array([[0, 5, 0, 0, 3, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    assert filled(holes).tolist() == [[5, 5, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0]]


def test_models_and_block_matching_are_measured_on_the_same_pairs(tmp_path: Path, capsys) -> None:
    save_checkpoint(build("stereo"), tmp_path / "tiny.ckpt")
    options = ["--pairs", "2", "--size", "48", "64", "--max-disparity", "16", "--out", str(tmp_path / "found.json")]
    assert main([str(tmp_path / "tiny.ckpt"), *options]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["drawn pairs"]
    assert list(found) == ["SGBM", str(tmp_path / "tiny.ckpt")]
    assert found["SGBM"]["stated"] < 1 == found[str(tmp_path / "tiny.ckpt")]["stated"]
    assert all(np.isfinite(value) for row in found.values() for value in row.values())
    assert "| method | epe | bad1 | bad2 | bad3 | d1 | epe_visible |" in capsys.readouterr().out
