"""The benchmark of known blurs runs, keeps its cells, and chooses settings on training images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import non_blind_deconvolution


def test_it_runs_and_keeps_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for folder in ("kernels", "set3c", "train"):
        (tmp_path / folder).mkdir()
    np.savez(tmp_path / "kernels" / "Levin09.npz", k1=rng.random((5, 5)), k2=rng.random((3, 7)))
    smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((40, 36))
    smooth.save(tmp_path / "set3c" / "a.png")
    smooth.convert("L").save(tmp_path / "train" / "b.png")
    out = tmp_path / "cells.jsonl"
    options = ["--data", tmp_path, "--train", tmp_path / "train", "--out", out, "--minutes", "0.002", "--quick"]
    arguments = [str(each) for each in options]
    assert non_blind_deconvolution.main([*arguments, "--kernels", "2"]) == 0
    assert non_blind_deconvolution.main(arguments) == 0 == non_blind_deconvolution.main(arguments)
    cells = [json.loads(line) for line in out.read_text().splitlines()]
    names = [(each["kernel"], each["method"]) for each in cells]
    assert sorted(names) == sorted((k, m) for k in (1, 2) for m in non_blind_deconvolution.METHODS)
    value = {name: each["psnr"] for name, each in zip(names, cells, strict=True)}
    assert value[1, "wiener"] > value[1, "blurred"] + 1
    assert [each["steps"] for each in cells if each["method"] == "network"] != [0, 0]
    assert f"| wiener | {value[1, 'wiener']:.2f} | {value[2, 'wiener']:.2f} |" in capsys.readouterr().out


def test_the_best_setting_is_that_of_the_least_error() -> None:
    clean = [np.full((8, 8), 0.5)]
    found = non_blind_deconvolution.best((0.2, 0.5, 0.9), lambda y, s: np.full_like(y, s), np.ones((1, 1)), clean)
    assert found == 0.5
