"""The table of optical flow beside what needs no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.flow_floors import main
from tasks.optical_flow import OpticalFlowTask
from tests.datamodules.test_flow_data import image, put
from visionkit.checkpoint import save_checkpoint


def test_a_model_and_the_floors_are_measured_on_the_same_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(OpticalFlowTask("flownet_s", flownet_s={"width": 0.0625}), tmp_path / "a.ckpt")
    for number, name in ((1, "frame10.png"), (2, "frame11.png")):
        image(tmp_path / "pair" / name, number, (64, 64))
    put(tmp_path / "pair" / "flow10.flo", size=(64, 64))
    options = [
        "--pairs",
        "2",
        "--size",
        "64",
        "64",
        "--root",
        str(tmp_path / "pair"),
        "--out",
        str(tmp_path / "a.json"),
    ]
    assert main([str(tmp_path / "a.ckpt"), *options]) == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in tables[1].splitlines()[2:]}
    assert rows.keys() == {"zero", "Farneback", "DIS", str(tmp_path / "a.ckpt")}
    assert tables[0] == "drawn pairs, 2 pairs" and tables[2].endswith("pair, 1 pair")
    assert float(rows["DIS"][0]) < float(rows["zero"][0]), "drawn pairs are no noise"
    assert all(np.isfinite(float(cell)) for cells in rows.values() for cell in cells)
