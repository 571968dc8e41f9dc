"""Enlarged pictures in the terminal and in the demo: files as they were sent, sliders, sizes, parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.super_resolution import SuperResolutionTask, tiles
from ui.answering import Upload, answer
from ui.catalogue import Catalogue, find_starters
from ui.cli import main
from ui.downloads import Downloads
from ui.views import picture, views
from visionkit.checkpoint import save_bundle
from visionkit.predictions import Picture
from visionkit.predictor import load


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    task = SuperResolutionTask("compact", scale=2, compact={"width": 8, "blocks": 1})
    save_bundle(task, folder / "double", card={"name": "Twice"})
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 40, 4), dtype=np.uint8)).save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 65536, (20, 21)).astype(np.uint16)).save(folder / "deep.png")
    return folder


def test_the_terminal_writes_pictures_and_records_without_pixels(models: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["predict", str(models / "double"), str(pictures), "--out", str(out), "--set", "ensemble=true"]
    assert main([*arguments, "--set", "tile=32"]) == 0
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [record["files"] for record in records] == [[f"files/{name}.png"] for name in ("clear", "deep", "grey")]
    assert all("png" not in record["prediction"] and record["prediction"]["scale"] == 2 for record in records)
    expected = load(models / "double")
    for name, mode in (("clear", "RGBA"), ("grey", "L"), ("deep", "I;16")):
        with Image.open(out / "files" / f"{name}.png") as image:
            assert image.mode == mode
            ours = expected(pictures / f"{name}.png", ensemble=True).pixels
            assert np.abs(np.asarray(image).reshape(ours.shape).astype(int) - ours).max() <= 1


def test_wrong_options_are_told(models: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(models / "double"), str(pictures), "--set"]
    assert main([*arguments, "ensembel=true"]) == 2
    assert "did you mean 'ensemble'" in capsys.readouterr().err
    assert main([*arguments, "ensemble"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_too_large_an_answer_is_skipped(models: Path, pictures: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(tiles, "MAX_OUTPUT_PIXELS", 2000)
    assert main(["predict", str(models / "double"), str(pictures / "grey.png"), str(pictures / "deep.png")]) == 3
    said = capsys.readouterr()
    assert "over the limit" in said.err and "VISIONKIT_MAX_OUTPUT_PIXELS" in said.err
    assert len(said.out.splitlines()) == 1, "the other one is done"


def test_the_demo_keeps_what_a_file_is_and_tells_its_parts(models: Path, pictures: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    upload = Upload(str(pictures / "clear.png"), "clear.png")
    answered = answer(Catalogue(models), "double", upload, progress=lambda done, total: told.append((done, total)))
    assert isinstance(answered.prediction, Picture) and answered.prediction.pixels.shape == (60, 80, 4)
    assert told == [(1, 1)] and answered.picture.shape == (30, 40, 3)
    values = views()["picture"].show(answered.prediction, answered.picture, Downloads(tmp_path))
    (before, after), _, words, file = values
    assert before.shape == after.shape == (60, 80, 3) and "80 × 60" in words and "×2" in words
    with Image.open(file) as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image), answered.prediction.pixels)
    bicubic = Image.fromarray(answered.picture).resize((80, 60), Image.Resampling.BICUBIC)
    assert np.abs(before.astype(int) - np.asarray(bicubic)).max() <= 2


def test_of_a_large_answer_the_middle_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "SIDE", 32)
    large = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    (before, after), _, words, _ = picture.VIEW.show(Picture(large, 2), large[::2, ::2], Downloads(tmp_path))
    assert before.shape == after.shape == (32, 32, 3) and "the middle 32 × 32" in words
    assert np.array_equal(after, large[24:56, 14:46])


def test_starters_enlarge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the bundles that come along: its scale, its terms, and better than bicubic on a photo it never saw."""
    import skimage.data

    photo = skimage.data.astronaut()[60:204, 150:294]
    starters = {entry.name: entry for entry in find_starters() if entry.task == "super_resolution"}
    assert set(starters) == {f"super_resolution/x{scale}" for scale in (2, 3, 4)}
    for scale in (2, 3, 4):
        entry = starters[f"super_resolution/x{scale}"]
        assert entry.card["terms"] and entry.card["limits"]
        low = np.asarray(Image.fromarray(photo).resize((144 // scale, 144 // scale), Image.Resampling.BICUBIC))
        ours = load(entry.path)(low).pixels
        plain = np.asarray(Image.fromarray(low).resize((144, 144), Image.Resampling.BICUBIC))
        inner = (slice(scale, -scale), slice(scale, -scale))
        error, other = (np.square(each[inner].astype(float) - photo[inner]).mean() for each in (ours, plain))
        assert error < 0.85 * other
