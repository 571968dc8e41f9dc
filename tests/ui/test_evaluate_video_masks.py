"""`visionkit evaluate video-masks`: DAVIS's J and F of files, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.real_data import real_data
from ui.cli import main


def run(tmp_path: Path, *arguments: Any) -> dict[str, Any]:
    out = tmp_path / "results.json"
    assert main(["evaluate", "video-masks", *map(str, arguments), "--results", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def write(folder: Path, *masks: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{number:05}.png")
    return folder


def square(left: int, label: int = 1) -> np.ndarray:
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, left : left + 10] = label
    return mask


def test_published_masks_of_osvos(tmp_path: Path) -> None:
    folder = real_data("video/davis_car_shadow")
    pair = folder / "Annotations" / "480p", folder / "results_osvos"
    record = run(tmp_path, *pair)
    metrics = record["metrics"]
    assert (round(metrics["j_mean"], 4), round(metrics["f_mean"], 4)) == (0.9284, 0.9174)
    assert "first and last frame left out" in record["protocol"] and "1 object in 38 frames of 1" in record["protocol"]
    assert record["tables"]["per image"][0]["image"] == "car-shadow/00001.png"
    assert metrics["j_and_f"] == (metrics["j_mean"] + metrics["f_mean"]) / 2 and metrics["j_recall"] == 1


def test_each_object_counts_alike_and_those_that_come_later_do_not(tmp_path: Path, capsys: Any) -> None:
    both = square(0) + square(20, 2)
    write(tmp_path / "gt" / "a", both, both, both + square(30, 3)[::-1], both)
    write(tmp_path / "gt" / "b", *[255 * square(4)] * 3)
    write(tmp_path / "found" / "a", both, square(0), square(0), both)
    write(tmp_path / "found" / "b", *[square(4)] * 3)
    write(tmp_path / "found" / "c", square(4))
    record = run(tmp_path, "--gt", tmp_path / "gt", "--pred", tmp_path / "found")
    assert record["metrics"]["j_mean"] == record["metrics"]["f_mean"] == pytest.approx(2 / 3)
    rows = [(each["sequence"], each["object"], each["j_mean"]) for each in record["tables"]["per object"]]
    assert rows == [("a", 1, 1), ("a", 2, 0), ("b", 1, 1)]
    said = capsys.readouterr().err
    assert "a: objects 3 are not in its first frame" in said and "1 sequences have no ground truth" in said
    assert run(tmp_path, tmp_path / "gt" / "a", tmp_path / "found" / "a")["metrics"]["j_mean"] == 0.5
    assert run(tmp_path, tmp_path / "gt" / "a", tmp_path / "found", "--all-frames")["metrics"]["j_mean"] == 0.75


def test_mistakes_are_one_line(tmp_path: Path, capsys: Any) -> None:
    gt, found = write(tmp_path / "gt" / "a", *[square(4)] * 4), write(tmp_path / "found" / "a", *[square(4)] * 4)
    (found / "00000.png").unlink()  # does not count, so nothing is asked of it
    assert main(["evaluate", "video-masks", str(gt), str(found)]) == 0
    capsys.readouterr()

    def failed(status: int, *arguments: Any) -> str:
        assert main(["evaluate", "video-masks", *map(str, arguments)]) == status
        said = str(capsys.readouterr().err)
        assert len(said.splitlines()) == 1
        return said

    assert "TRUTH and --pred PREDICTIONS are needed" in failed(2, gt)
    assert "no such folder" in failed(3, gt, tmp_path / "none")
    assert "00000.png: no mask of frame 00000 of sequence a" in failed(3, gt, found, "--all-frames")
    assert "no folder of masks of sequence b" in failed(
        3, write(tmp_path / "two" / "b", square(1)).parent, found.parent
    )
    Image.new("L", (9, 9)).save(found / "00002.png")
    assert "9x9 pixels, and the first frame of a has 40x30" in failed(3, gt, found)
    write(tmp_path / "none" / "a", *[square(4, 0)] * 3)
    assert "marks no object" in failed(3, tmp_path / "none" / "a", found)
    write(tmp_path / "short" / "a", *[square(4)] * 2)
    assert "at least 3 are needed" in failed(3, tmp_path / "short", found.parent)
    assert "--border: is for images" in failed(2, gt, found, "--border", "2")
