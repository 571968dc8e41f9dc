"""Restored images in files: holes by masks, and gray networks on files in color."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.real_data import real_data
from ui.cli import main


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def decibels(error: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(error.astype(float)).mean()))


@pytest.fixture
def photo(tmp_path: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(30, 220, (24, 32, 3), dtype=np.uint8)
    save(tmp_path / "truth" / "a.png", pixels)
    return pixels


def test_holes_are_measured_apart(tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    rng, mask = np.random.default_rng(1), np.zeros((24, 32), np.uint8)
    mask[4:12, 6:20] = 255
    noise = rng.integers(-2, 3, photo.shape) + (mask[:, :, None] > 0) * rng.integers(-20, 21, photo.shape)
    save(tmp_path / "found" / "a.png", (photo + noise).astype(np.uint8))
    file = save(tmp_path / "masks" / "a.png", mask)
    call = ["evaluate", "images", str(tmp_path / "truth"), str(tmp_path / "found"), "--masks"]
    for masks in (file.parent, file):
        assert main([*call, str(masks), "--results", str(tmp_path / "r.json")]) == 0
        record = json.loads((tmp_path / "r.json").read_text())
        assert record["metrics"]["psnr_hole"] == pytest.approx(decibels(noise[mask > 0]))
        assert record["metrics"]["psnr_valid"] == pytest.approx(decibels(noise[mask == 0]))
        assert record["metrics"]["psnr_rgb"] == pytest.approx(decibels(noise))
        assert "psnr_hole is of missing pixels alone" in record["protocol"]
    save(file, mask[:10])
    assert main([*call, str(file.parent)]) == 3
    errors = capsys.readouterr().err
    assert all(size in errors for size in ("10x32", "24x32"))
    file.rename(file.with_name("b.png"))
    assert main([*call, str(file.parent)]) == 3 and "no mask for 1 of 1" in capsys.readouterr().err
    assert main([*call, str(tmp_path / "nowhere")]) == 3 and "does not exist" in capsys.readouterr().err


def test_a_gray_restoration_of_a_file_in_color_is_compared_in_gray(
    tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    gray = np.asarray(Image.fromarray(photo).convert("L"))
    noise = np.random.default_rng(1).integers(-5, 6, gray.shape)
    save(tmp_path / "found" / "a.png", (gray + noise).astype(np.uint8))
    call = ["evaluate", "images", str(tmp_path / "truth"), str(tmp_path / "found")]
    assert main([*call, "--results", str(tmp_path / "r.json")]) == 0
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert metrics["psnr_y"] == pytest.approx(decibels(noise)) == metrics["psnr_rgb"]
    assert "1 predictions are gray and their ground truth is not" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "known"), [("mean", 27.33), ("copy", 24.57)])
def test_a_frame_half_way_reads_as_known(tmp_path: Path, name: str, known: float) -> None:
    """Floors of interpolation between frames: the mean of both, and a copy of the first."""
    folder = real_data("optical_flow/middlebury_pair")
    first, middle, last = (np.asarray(Image.open(folder / f"frame{each}.png")) for each in ("10", "10i11", "11"))
    mean = np.round((first.astype(np.float64) + last) / 2).astype(np.uint8)
    save(tmp_path / "truth" / "a.png", middle)
    save(tmp_path / "found" / "a.png", mean if name == "mean" else first)
    out = tmp_path / "results.json"
    assert main(["evaluate", "images", str(tmp_path / "truth"), str(tmp_path / "found"), "--results", str(out)]) == 0
    assert json.loads(out.read_text())["metrics"]["psnr_rgb"] == pytest.approx(known, abs=0.006)
