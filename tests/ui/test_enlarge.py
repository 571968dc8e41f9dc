"""Enlarged images in the terminal and in the demo: files as they were sent, sliders, sizes, parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.super_resolution import SuperResolutionTask
from ui.cli import main
from ui.downloads import Downloads
from ui.inference import Upload, predict
from ui.model_registry import ModelRegistry, find_example_models
from ui.views import image, views
from visionkit.checkpoint import save_bundle
from visionkit.families.restoration import tiles
from visionkit.predictions import ImagePrediction
from visionkit.predictor import load


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    task = SuperResolutionTask("compact", scale=2, compact={"width": 8, "blocks": 1})
    save_bundle(task, folder / "double", card={"name": "Twice"})
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng, folder = np.random.default_rng(0), tmp_path / "in"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 40, 4), dtype=np.uint8)).save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 256, (30, 40), dtype=np.uint8)).save(folder / "gray.png")
    Image.fromarray(rng.integers(0, 65536, (20, 21)).astype(np.uint16)).save(folder / "deep.png")
    return folder


def test_the_terminal_writes_images_and_records_without_pixels(models: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["predict", str(models / "double"), str(images), "--out", str(out), "--set", "ensemble=true"]
    assert main([*arguments, "--set", "tile=32"]) == 0
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [record["files"] for record in records] == [[f"files/{name}.png"] for name in ("clear", "deep", "gray")]
    assert all("png" not in record["prediction"] and record["prediction"]["scale"] == 2 for record in records)
    expected = load(models / "double")
    for name, mode in (("clear", "RGBA"), ("gray", "L"), ("deep", "I;16")):
        with Image.open(out / "files" / f"{name}.png") as image:
            assert image.mode == mode
            ours = expected(images / f"{name}.png", ensemble=True).pixels
            assert np.abs(np.asarray(image).reshape(ours.shape).astype(int) - ours).max() <= 1


def test_wrong_options_are_reported(models: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["predict", str(models / "double"), str(images), "--set"]
    assert main([*arguments, "ensembel=true"]) == 2
    assert "did you mean 'ensemble'" in capsys.readouterr().err
    assert main([*arguments, "ensemble"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_too_large_an_predictions_is_skipped(models: Path, images: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(tiles, "MAX_OUTPUT_PIXELS", 2000)
    assert main(["predict", str(models / "double"), str(images / "gray.png"), str(images / "deep.png")]) == 3
    said = capsys.readouterr()
    assert "over the limit" in said.err and "VISIONKIT_MAX_OUTPUT_PIXELS" in said.err
    assert len(said.out.splitlines()) == 1, "the other one is done"


def test_the_demo_keeps_what_a_file_is_and_shows_its_parts(models: Path, images: Path, tmp_path: Path) -> None:
    message: list[tuple[int, int]] = []
    upload = Upload(str(images / "clear.png"), "clear.png")
    result = predict(
        ModelRegistry(models), "double", upload, progress=lambda done, total: message.append((done, total))
    )
    assert isinstance(result.prediction, ImagePrediction) and result.prediction.pixels.shape == (60, 80, 4)
    assert message == [(1, 1)] and result.image.shape == (30, 40, 3)
    values = views()["image"].show(result.prediction, result.image, Downloads(tmp_path))
    (before, after), _, words, file = values
    assert before.shape == after.shape == (60, 80, 3) and "80 × 60" in words and "×2" in words
    with Image.open(file) as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image), result.prediction.pixels)
    bicubic = Image.fromarray(result.image).resize((80, 60), Image.Resampling.BICUBIC)
    assert np.abs(before.astype(int) - np.asarray(bicubic)).max() <= 2


def test_of_a_large_prediction_the_middle_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "SIDE", 32)
    large = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    (before, after), _, words, _ = image.VIEW.show(ImagePrediction(large, 2), large[::2, ::2], Downloads(tmp_path))
    assert before.shape == after.shape == (32, 32, 3) and "the middle 32 × 32" in words
    assert np.array_equal(after, large[24:56, 14:46])


def test_example_models_enlarge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the bundles that come along: its scale, its terms, and better than bicubic on a photo it never saw."""
    import skimage.data

    photo = skimage.data.astronaut()[60:204, 150:294]
    example_models = {entry.name: entry for entry in find_example_models() if entry.task == "super_resolution"}
    assert set(example_models) == {f"super_resolution/x{scale}" for scale in (2, 3, 4)}
    for scale in (2, 3, 4):
        entry = example_models[f"super_resolution/x{scale}"]
        assert entry.card["terms"] and entry.card["limits"]
        low = np.asarray(Image.fromarray(photo).resize((144 // scale, 144 // scale), Image.Resampling.BICUBIC))
        ours = load(entry.path)(low).pixels
        plain = np.asarray(Image.fromarray(low).resize((144, 144), Image.Resampling.BICUBIC))
        inner = (slice(scale, -scale), slice(scale, -scale))
        error, other = (np.square(each[inner].astype(float) - photo[inner]).mean() for each in (ours, plain))
        assert error < 0.85 * other
