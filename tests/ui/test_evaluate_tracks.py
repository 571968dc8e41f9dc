"""`visionkit evaluate tracks`: files of tracks against ground truth, without a model."""

from __future__ import annotations

import json

import pytest

from tests.real_data import real_data
from ui.cli import main

GT = "1,1,1,1,10,10,1,-1,-1,-1\n2,1,2,1,10,10,1,-1,-1,-1\n"
GT16 = "1,1,1,1,10,10,1,1,1\n1,2,40,1,10,10,1,8,1\n2,1,2,1,10,10,1,1,1\n"


def run(tmp_path, *arguments):
    out = tmp_path / "results.json"
    assert main(["evaluate", "tracks", *map(str, arguments), "--results", str(out)]) == 0
    return json.loads(out.read_text())


def failed(capsys, status, *arguments):
    assert main(["evaluate", "tracks", *map(str, arguments)]) == status
    return capsys.readouterr().err


def test_one_sequence_and_its_protocol(tmp_path) -> None:
    folder = real_data("video/mot15_tud") / "TUD-Campus"
    record = run(tmp_path, "--gt", folder / "gt.txt", "--pred", folder / "test.txt")
    assert round(100 * record["metrics"]["mota"], 1) == 52.6 and record["metrics"]["ids"] == 7
    assert record["protocol"].startswith("MOT15: IoU at least 0.5") and "359 true boxes" in record["protocol"]


def test_several_sequences(tmp_path) -> None:
    folder = real_data("video/mot15_tud")
    names = ("TUD-Campus", "TUD-Stadtmitte")
    record = run(
        tmp_path, "--gt", *(folder / n / "gt.txt" for n in names), "--pred", *(folder / n / "test.txt" for n in names)
    )
    rows = record["tables"]["per sequence"]
    assert [row["sequence"] for row in rows] == list(names)
    assert [round(100 * row["mota"], 1) for row in rows] == [52.6, 56.4]
    assert record["metrics"]["fn"] == 150 + 452 and record["metrics"]["mota"] == pytest.approx(1 - 674 / 1515)
    assert run(tmp_path, folder, folder)["metrics"] == record["metrics"]  # folders, by position


def test_the_layout_of_2016_and_its_distractors(tmp_path) -> None:
    (tmp_path / "train" / "A" / "gt").mkdir(parents=True)
    (tmp_path / "train" / "A" / "gt" / "gt.txt").write_text(GT16)
    (tmp_path / "train" / "A" / "seqinfo.ini").write_text("[Sequence]\nname=A\nseqLength=3\n")
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "A.txt").write_text(GT + "1,2,40,1,10,10,1,-1,-1,-1\n")
    record = run(tmp_path, "--gt", tmp_path / "train", "--pred", tmp_path / "found")
    assert record["metrics"]["fp"] == 0 and record["metrics"]["mota"] == 1 and record["protocol"].startswith("MOT16")
    record = run(tmp_path, "--gt", tmp_path / "train", "--pred", tmp_path / "found", "--benchmark", "mot15")
    assert record["metrics"]["fn"] == 0 and record["metrics"]["tp" if "tp" in record["metrics"] else "fp"] == 0


def test_mistakes_are_one_line(tmp_path, capsys) -> None:
    gt, two = tmp_path / "gt.txt", tmp_path / "res.txt"
    gt.write_text(GT)
    two.write_text("1,1,1,1,10,10,1\n1,1,5,5,10,10,1\n")
    assert "res.txt: duplicate id 1 in frame 1" in failed(capsys, 3, "--gt", gt, "--pred", two)
    assert "--gt GT.txt and --pred" in failed(capsys, 2, "--gt", gt)
    assert "no such file" in failed(capsys, 3, "--gt", gt, "--pred", tmp_path / "no.txt")
    assert "give one per sequence" in failed(capsys, 2, "--gt", gt, gt, "--pred", gt)
    assert "did you mean 'mot16'" in failed(capsys, 2, "--gt", gt, "--pred", gt, "--benchmark", "mot166")
    assert "has no classes" in failed(capsys, 3, "--gt", gt, "--pred", gt, "--benchmark", "mot16")
    assert "need files with classes" in failed(capsys, 2, "--gt", gt, "--pred", gt, "--class", 1)
    assert main(["evaluate", "boxes", "a", "b", "--gt", "c"]) == 2
    assert "--gt: is for tracks" in capsys.readouterr().err
