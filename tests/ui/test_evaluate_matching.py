"""Optical flow, disparity and scene flow in files, on cases worked out by hand and on real pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.flow_files import write_flow
from tests.real_data import real_data
from ui.cli import main
from visionkit.families.matching.classical import classical_flow
from visionkit.families.matching.classical_stereo import block_matching
from visionkit.predictions import DisparityMap

FLOW = np.zeros((2, 2, 4), np.float32)
FLOW[0] = [[10, 10, 100, 10], [10, 10, 10, 10]]


def evaluated(folder: Path, *arguments: str) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--results", str(folder / "r.json")]) == 0
    record: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return record


def test_flow_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known, given = np.ones((2, 4), bool), np.ones((2, 4), bool)
    known[1, 3] = given[1, 2] = False
    ours = FLOW.copy()
    ours[1, 0] = (0.5, 2, 4, 6)  # errors: right, above 1 px, 4 % of 100, an outlier; below, one without a prediction
    for side in ("truth", "found"):
        (tmp_path / side).mkdir()
    write_flow(tmp_path / "truth" / "a.png", FLOW, known)
    write_flow(tmp_path / "found" / "a.flo", ours, given)
    Image.fromarray(np.array([[0, 0, 255, 255], [0, 0, 0, 0]], np.uint8)).save(tmp_path / "hidden.png")
    sides = str(tmp_path / "truth"), str(tmp_path / "found")
    found = evaluated(tmp_path, "flow", *sides, "--occluded", str(tmp_path / "hidden.png"))
    # Seven known pixels: errors .5, 2, 4, 6, 0, 0 and 10 of the one without a prediction.
    wanted = {"epe": 22.5 / 7, "bad1": 4 / 7, "bad3": 3 / 7, "bad5": 2 / 7, "fl_all": 2 / 7}
    wanted |= {"epe_occluded": 5, "fl_all_occluded": 0.5, "epe_visible": 12.5 / 5}
    assert {name: found["metrics"][name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert found["tables"]["per image"][0]["epe"] == pytest.approx(22.5 / 7, abs=1e-6)
    assert "1 pixels have no prediction" in capsys.readouterr().err
    write_flow(tmp_path / "found" / "a.flo", ours[:, :, :3])
    assert main(["evaluate", "flow", *sides]) == 3 and "2x3" in capsys.readouterr().err
    assert main(["evaluate", "boxes", *sides, "--occluded", "x"]) == 2
    assert main(["evaluate", "flow", *sides, "--occluded", "nowhere"]) == 3


def test_disparity_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("truth", "found"):
        (tmp_path / side).mkdir()
    Image.fromarray(np.array([[40, 40, 200, 0]], np.uint8)).save(tmp_path / "truth" / "a.png")
    (tmp_path / "found" / "a.pfm").write_bytes(DisparityMap(np.float32([[10.5, 14, 50, 9]])).pfm())
    sides = str(tmp_path / "truth"), str(tmp_path / "found")
    assert main(["evaluate", "disparity", *sides]) == 3 and "--truth-units" in capsys.readouterr().err
    found = evaluated(tmp_path, "disparity", *sides, "--truth-units", "4")["metrics"]
    assert found == pytest.approx({"epe": 1.5, "bad1": 1 / 3, "bad2": 1 / 3, "bad3": 1 / 3, "d1": 1 / 3}, abs=1e-6)
    assert main(["evaluate", "disparity", *sides, "--truth-units", "-4"]) == 2


def test_scene_flow_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four points: one is wrong in the first disparity, one in the flow, one in both; the truth of a fifth lacks."""
    disparity = np.float32([[20, 20, 20, 20, 0]])
    flow = np.zeros((2, 1, 5), np.float32)
    wrong, moved = disparity + np.float32([[0, 9, 0, 9, 0]]), flow.copy()
    moved[1, 0, 2:4] = 5
    for name, values in (
        ("disp_occ_0", disparity),
        ("disp_occ_1", disparity),
        ("disp_0", wrong),
        ("disp_1", disparity),
    ):
        folder = tmp_path / ("truth" if "occ" in name else "found") / name
        folder.mkdir(parents=True)
        (folder / "000000_10.png").write_bytes(DisparityMap(values).png())
    for side, name, values in (("truth", "flow_occ", flow), ("found", "flow", moved)):
        (tmp_path / side / name).mkdir()
        write_flow(tmp_path / side / name / "000000_10.png", values)
    sides = str(tmp_path / "truth"), str(tmp_path / "found")
    found = evaluated(tmp_path, "scene-flow", *sides)["metrics"]
    assert found == pytest.approx({"D1": 0.5, "D2": 0.0, "Fl": 0.5, "SF": 0.75})
    (tmp_path / "found" / "flow").rename(tmp_path / "found" / "else")
    assert main(["evaluate", "scene-flow", *sides]) == 3 and "no such folder" in capsys.readouterr().err


def test_known_numbers_of_real_pairs_from_files_alone(tmp_path: Path) -> None:
    urban, cones = real_data("optical_flow"), real_data("stereo/middlebury_cones")
    (flow,) = urban.rglob("flow10.flo")
    frames = [np.asarray(Image.open(flow.with_name(f"frame{number}.png")).convert("RGB")) for number in (10, 11)]
    for name, values in (("zero", np.zeros((2, *frames[0].shape[:2]))), ("dis", classical_flow(*frames))):
        write_flow(tmp_path / f"{name}.flo", values.astype(np.float32))
        found = evaluated(tmp_path, "flow", str(flow), str(tmp_path / f"{name}.flo"))["metrics"]
        assert found["epe"] == pytest.approx({"zero": 7.307, "dis": 2.014}[name], abs=2e-3)
    left, right = (np.asarray(Image.open(cones / f"{side}.png")) for side in ("left", "right"))
    (tmp_path / "left.pfm").write_bytes(DisparityMap(block_matching(left, right)).pfm())
    hidden = np.asarray(Image.open(cones / "occlusion.png")) == 0
    Image.fromarray(hidden.astype(np.uint8) * 255).save(tmp_path / "hidden.png")
    sides = str(cones / "disp_left.tif"), str(tmp_path / "left.pfm")
    found = evaluated(tmp_path, "disparity", *sides, "--occluded", str(tmp_path / "hidden.png"))["metrics"]
    assert found["bad3"] == pytest.approx(0.211, abs=0.003), "what is missing counts as wrong"
    assert 0.09 < found["bad3_visible"] < 0.12 and found["bad3_occluded"] > 0.9
