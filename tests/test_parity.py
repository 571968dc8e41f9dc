"""What you trained is what you serve: every road gives the same prediction on images of every type."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.classification import ClassificationTask
from ui.cli import main
from ui.inference import Upload, predict
from ui.model_registry import ModelRegistry
from visionkit.checkpoint import AtomicCheckpointIO
from visionkit.export import export_bundle
from visionkit.geometry import InputSpec
from visionkit.predictor import load

TOLERANCE = 1e-4


def _scene(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (3 + seed) + c) * np.cos(y / (5 + c) + seed) for c in range(3)]
    noise = rng.integers(-20, 20, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def _write_images(folder: Path) -> list[Path]:
    """Twenty files: sizes, EXIF orientations, gray, alpha, CMYK, 16 bit, palette, 1 bit, other containers."""
    folder.mkdir()
    for k, (height, width) in enumerate([(64, 64), (48, 97), (333, 201), (30, 400), (7, 5), (480, 640)]):
        Image.fromarray(_scene(height, width, k)).save(folder / f"size{k}.jpg", quality=92)
    for orientation in (2, 3, 5, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(_scene(90, 140, orientation)).save(folder / f"exif{orientation}.jpg", exif=exif)
    rgb = Image.fromarray(_scene(80, 120, 9))
    rgb.convert("L").save(folder / "gray.png")
    rgb.convert("L").save(folder / "gray.jpg")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.arange(120, dtype=np.uint8) * 2, (80, 1))))
    alpha.save(folder / "rgba.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(_scene(60, 70, 3)[:, :, 0].astype(np.uint16) * 257).save(folder / "sixteen.png")
    rgb.quantize(32).save(folder / "palette.png")
    rgb.convert("1").save(folder / "onebit.png")
    rgb.save(folder / "container.webp", lossless=True)
    rgb.save(folder / "container.bmp")
    paths = sorted(folder.iterdir())
    assert len(paths) == 20
    return paths


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model as checkpoint and as bundle with its ONNX graph, decided enough that an error would show."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    task = ClassificationTask(
        "test_resnet", classes=["a", "b", "c", "d"], input=InputSpec(size=(64, 64), interpolation="bicubic")
    ).eval()
    with torch.no_grad():
        task.network.head.classifier.weight.mul_(60)
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, folder / "model.ckpt")
    export_bundle(task, folder / "bundle", onnx=True, card={"data": "none: random weights"}, images=[_scene(48, 64, 0)])
    return folder


def test_every_path_gives_the_same_predictions(models, tmp_path):
    paths = _write_images(tmp_path / "images")
    trained = load(models / "model.ckpt")
    expected = np.stack([trained(path).probabilities for path in paths])
    assert expected.max(axis=1).std() > 0.01, "images must differ, or nothing is compared"

    bundle, onnx = load(models / "bundle"), load(models / "bundle", engine="onnx")
    demo = ModelRegistry(models)
    channels_ = {
        "bundle": [bundle(path) for path in paths],
        "a list": bundle([str(path) for path in paths]),
        "bytes": [bundle(path.read_bytes()) for path in paths],
        "ONNX Runtime": [onnx(path) for path in paths],
        "the demo": [predict(demo, "bundle", Upload(str(path), path.name)).prediction for path in paths],
        "the demo, from the checkpoint": [
            predict(demo, "model.ckpt", Upload(str(path), path.name)).prediction for path in paths
        ],
    }
    for channel, predictions in channels_.items():
        difference = np.abs(np.stack([p.probabilities for p in predictions]) - expected).max()
        assert difference <= TOLERANCE, f"{channel} differs by {difference}"

    for engine in ("torch", "onnx"):
        out = tmp_path / engine
        command = ["predict", str(models / "bundle"), str(tmp_path / "images"), "--out", str(out), "--engine", engine]
        assert main([*command, "--batch-size", "7"]) == 0
        records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
        values = np.array([list(record["prediction"]["probabilities"].values()) for record in records])
        assert np.abs(values - expected).max() <= TOLERANCE, f"visionkit predict --engine {engine} differs"
