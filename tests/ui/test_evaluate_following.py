"""`visionkit evaluate following`: boxes of one object per sequence, without a model."""

from __future__ import annotations

import json

import pytest

from tests.real_data import real_data
from ui.cli import main


def run(tmp_path, *arguments):
    out = tmp_path / "results.json"
    assert main(["evaluate", "following", *map(str, arguments), "--results", str(out)]) == 0
    return json.loads(out.read_text())


def failed(capsys, status, *arguments):
    assert main(["evaluate", "following", *map(str, arguments)]) == status
    return capsys.readouterr().err


def test_one_sequence_in_both_conventions(tmp_path) -> None:
    home = real_data("video/otb_biker_boxes")
    files = ["--gt", home / "Biker" / "groundtruth_rect.txt", "--pred", home / "results" / "MEEM" / "Biker.json"]
    record = run(tmp_path, *files)
    assert round(record["metrics"]["success_auc"], 4) == 0.2787 and "135 of 142 frames" in record["protocol"]
    assert len(record["tables"]["per image"]) == 135
    record = run(tmp_path, *files, "--convention", "stored")
    assert round(record["metrics"]["success_auc"], 4) == 0.2649 and "142 of 142 frames" in record["protocol"]


def test_a_folder_of_sequences(tmp_path) -> None:
    for name, box in (("A", "1 1 10 10"), ("B", "1\t1\t20\t10")):
        (tmp_path / "otb" / name).mkdir(parents=True)
        (tmp_path / "otb" / name / "groundtruth_rect.txt").write_text(f"{box}\n" * 3)
        (tmp_path / f"{name}.txt").write_text("1,1,10,10\n" * 3)
    record = run(tmp_path, tmp_path / "otb", tmp_path)
    assert [(row["sequence"], row["frames"]) for row in record["tables"]["per sequence"]] == [("A", 3), ("B", 3)]
    # The first box counts as the true one, the others have half of it.
    assert record["metrics"]["mean_overlap"] == pytest.approx((1 + (1 + 0.5 + 0.5) / 3) / 2)


def test_mistakes_are_one_line(tmp_path, capsys) -> None:
    truth, short = tmp_path / "groundtruth_rect.txt", tmp_path / "res.txt"
    truth.write_text("1,1,5,5\n" * 3)
    short.write_text("1,1,5,5\n" * 2)
    assert "res.txt: 2 boxes for 3 of the ground truth" in failed(capsys, 3, "--gt", truth, "--pred", short)
    assert "--gt GT.txt and --pred BOXES.txt are needed" in failed(capsys, 2, "--gt", truth)
    assert "give one per sequence" in failed(capsys, 2, "--gt", truth, truth, "--pred", truth)
    assert "did you mean 'stored'" in failed(capsys, 2, "--gt", truth, "--pred", truth, "--convention", "store")
    assert "no such file" in failed(capsys, 3, "--gt", truth, "--pred", tmp_path / "no.txt")
    assert "--benchmark: is for tracks" in failed(capsys, 2, "--gt", truth, "--pred", truth, "--benchmark", "mot15")
    (tmp_path / "found").mkdir()
    assert "no boxes of sequence" in failed(capsys, 3, "--gt", tmp_path, "--pred", tmp_path / "found")
