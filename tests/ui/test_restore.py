"""Restored images in the terminal and by requests: a noise level as an option, a mask as a further image."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.ui.restorers import denoiser, painter
from ui import batch
from ui.cli import main
from ui.inference import Upload, predict
from ui.model_registry import ModelRegistry
from ui.named_inputs import pair_with
from ui.pages.further import NumberInputs
from ui.server.job_queue import JobQueue
from ui.server.routes import add_routes
from visionkit.checkpoint import save_bundle, save_checkpoint
from visionkit.engines import OnnxEngine
from visionkit.errors import DataError, UsageError
from visionkit.export import write_graph
from visionkit.predictions import ImagePrediction
from visionkit.predictor import Predictor, load


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_bundle(denoiser(), folder / "denoise", card={"name": "Denoiser"})
    save_bundle(painter(), folder / "paint", card={"name": "Painter"})
    save_checkpoint(denoiser(), folder / "later.ckpt")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return path


def mask_of(size: tuple[int, int] = (30, 40)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[5:15, 10:30] = 255
    return mask


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "masks" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(mask_of()).save(path)
    return path


def restored(out: Path) -> np.ndarray:
    with Image.open(out / "files" / "photo.png") as image:
        return np.asarray(image)


def test_models_state_their_own_inputs_before_and_after_loading(models: Path) -> None:
    registry = ModelRegistry(models)
    assert registry.inputs("denoise") == ("image", "noise_level") and registry.inputs("paint") == ("image", "mask")
    assert registry.inputs("later.ckpt") == ("image",) and registry.inputs(None, task="restoration") == ("image",)
    assert registry.inputs("later.ckpt", opened=True) == ("image", "noise_level")
    loaded = registry.get("later.ckpt")
    with loaded.lock:
        loaded.predictor()
    assert registry.inputs("later.ckpt") == ("image", "noise_level")


def test_the_terminal_takes_a_noise_level(
    models: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["predict", str(models / "denoise"), str(photo)]
    assert main([*call, "--out", str(tmp_path / "a"), "--set", "noise_level=25"]) == 0
    expected = load(models / "denoise")(photo, noise_level=25)
    assert isinstance(expected, ImagePrediction) and np.array_equal(restored(tmp_path / "a"), expected.pixels)
    assert not np.array_equal(expected.pixels, load(models / "denoise")(photo, noise_level=26).pixels)
    # An image of it, by name and beside a single photo, is the same.
    levels = tmp_path / "levels.png"
    Image.fromarray(np.full((30, 40), 25, np.uint8)).save(levels)
    assert main([*call, "--out", str(tmp_path / "b"), "--input", f"noise_level={levels}"]) == 0
    assert np.array_equal(restored(tmp_path / "b"), expected.pixels)
    capsys.readouterr()
    assert main(call) == 2
    assert "--set noise_level=VALUE" in capsys.readouterr().err
    for value, words in (("300", "allowed are 0 to 255"), ("strong", "allowed are 0 to 255"), ("NaN", "0 to 255")):
        assert main([*call, "--set", f"noise_level={value}"]) == 2
        assert words in capsys.readouterr().err
    assert main([*call, "--set", "noise_level=25", "--input", f"noise_level={levels}"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_a_noise_level_that_was_not_trained_on_gives_one_caution(
    models: Path, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = load(models / "denoise")
    assert len(list(predictor.stream([photo] * 3, noise_level=60))) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "noise_level 60: the network was trained on 5 to 50, and its result may be poor"
    ]
    result = predict(ModelRegistry(models), "denoise", Upload(str(photo), "a.png"), options={"noise_level": 2.5})
    assert result.cautions == ("noise_level 2.5: the network was trained on 5 to 50, and its result may be poor",)


def test_the_terminal_takes_masks(
    models: Path, photo: Path, mask: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["predict", str(models / "paint"), str(photo), "--out"]
    assert main([*call, str(tmp_path / "a"), "--input", f"mask={mask.parent}"]) == 0
    assert main([*call, str(tmp_path / "b"), "--input", f"mask={mask}"]) == 0
    assert np.array_equal(restored(tmp_path / "a"), restored(tmp_path / "b"))
    with Image.open(photo) as given:
        changed = (np.asarray(given) != restored(tmp_path / "a")).any(axis=2)
    assert changed[mask_of() > 0].mean() > 0.5 and not changed[mask_of() == 0].any()
    capsys.readouterr()
    assert main([*call, str(tmp_path / "c")]) == 2
    assert "--input mask=PATH, or --pairs" in capsys.readouterr().err
    assert pair_with([photo], {"mask": mask.parent}, ("image", "mask")) == {photo: {"mask": mask}}


@pytest.mark.parametrize("options", [{}, {"tile": 68}])
def test_a_mask_of_another_size_is_refused_with_both(models: Path, options: dict[str, int]) -> None:
    given = {"image": np.zeros((100, 120, 3), np.uint8), "mask": mask_of((20, 40))}
    with pytest.raises(DataError, match=r"40x20 pixels, and the other images of the same sample have 120x100"):
        load(models / "paint")(given, **options)


def test_a_graph_takes_the_noise_level(photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = denoiser()
    write_graph(task, tmp_path / "model.onnx")
    torch_one = Predictor(task)
    graph = Predictor(task, OnnxEngine(tmp_path / "model.onnx", task.outputs, inputs=task.inputs))
    ours = [graph(photo, noise_level=level).pixels.astype(int) for level in (25, 24.6)]
    assert np.abs(ours[0] - torch_one(photo, noise_level=25).pixels).max() <= 1
    assert np.array_equal(*ours)
    assert [each for each in caplog.messages if "rounded" in each] == [
        "noise_level is rounded to whole gray levels, which is what an exported graph takes"
    ]
    with pytest.raises(UsageError, match="takes images of 8 bit"):
        graph(np.random.default_rng(0).random((16, 16, 3)).astype(np.float32), noise_level=25)


@pytest.fixture
def client(models: Path, tmp_path: Path) -> Iterator[TestClient]:
    app = FastAPI()
    (tmp_path / "scratch").mkdir()
    add_routes(app, JobQueue(ModelRegistry(models)), tmp_path / "scratch", lambda: True)
    yield TestClient(app)


def test_requests_choose_the_noise_level_and_send_a_mask(
    client: TestClient, models: Path, photo: Path, mask: Path
) -> None:
    def pixels(response) -> np.ndarray:
        assert response.status_code == 200, response.text
        return ImagePrediction.from_json(response.json()).pixels

    content = photo.read_bytes()
    for model in ("denoise", "later.ckpt"):
        response = client.post("/api/predict", params={"model": model, "noise_level": 60}, content=content)
        expected = load(models / model)(photo, noise_level=60)
        assert (
            np.array_equal(pixels(response), expected.pixels) and "trained on 5 to 50" in response.headers["x-caution"]
        )
    response = client.post("/api/predict", params={"model": "denoise"}, content=content)
    assert response.status_code == 400 and "noise_level" in response.json()["error"]
    for options, words in (({"noise_level": "x"}, "0 to 255"), ({"noise_level": 25, "tile": 32}, "by request")):
        response = client.post("/api/predict", params={"model": "denoise", **options}, content=content)
        assert response.status_code == 400 and words in response.json()["error"]
    arguments = {"model": "denoise", "image": base64.b64encode(content).decode(), "options": {"noise_level": 40}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "predict", "arguments": arguments}}
    text = client.post("/mcp", json=message).json()["result"]["content"][0]["text"]
    assert ImagePrediction.from_json(json.loads(text)) == load(models / "denoise")(photo, noise_level=40)
    files = {"image": ("a.png", content), "mask": ("m.png", mask.read_bytes())}
    found = pixels(client.post("/api/predict", params={"model": "paint"}, files=files))
    assert np.array_equal(found, load(models / "paint")({"image": photo, "mask": mask}).pixels)
    small = io.BytesIO()
    Image.fromarray(mask_of((10, 10))).save(small, "PNG")
    response = client.post(
        "/api/predict", params={"model": "paint"}, files={**files, "mask": ("m.png", small.getvalue())}
    )
    assert response.status_code == 422 and "10x10" in response.json()["error"] and "40x30" in response.json()["error"]


def test_many_images_have_one_noise_level(models: Path, photo: Path, tmp_path: Path) -> None:
    queue, uploads = JobQueue(ModelRegistry(models)), [Upload(str(photo), "a.png"), Upload(str(photo), "b.png")]
    rows = list(batch.run(queue, "denoise", uploads, tmp_path / "results.zip", {"noise_level": 40}))
    assert [row.good for row in rows] == [True, True]
    expected = load(models / "denoise")(photo, noise_level=40).pixels
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        saved = [np.asarray(Image.open(archive.open(name))) for name in archive.namelist() if name[:6] == "files/"]
    assert len(saved) == 2 and all(np.array_equal(each, expected) for each in saved)


def test_pages_of_many_images_and_models_ask_for_numbers_and_refuse_masks(models: Path) -> None:
    with gr.Blocks():
        numbers = NumberInputs(ModelRegistry(models), None, ["paint", "denoise"])
    (slider,) = numbers.components
    assert slider.visible and (slider.minimum, slider.maximum, slider.value) == (0, 75, 25)
    assert "trained on 5 to 50" in slider.info, "of the model that takes it"
    assert numbers.options("denoise", [30]) == {"noise_level": 30.0}
    assert numbers.options("later.ckpt", [30]) == {"noise_level": 30.0}
    with pytest.raises(UsageError, match=r"paint takes more than an image \(mask\).*page of its own task.*--input"):
        numbers.options("paint", [30])
    assert (
        not numbers.changes(["paint"])[slider]["visible"] and numbers.changes(["paint", "denoise"])[slider]["visible"]
    )
