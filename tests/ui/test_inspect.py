"""`visionkit inspect`: reports, comparisons, timing and the drawing of a field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ui.cli import main


def test_a_report_on_the_terminal_and_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "test_resnet", "--size", "64", "96"]) == 0
    page = capsys.readouterr().out
    assert "input 3x64x96" in page and "One multiply-add is" in page and "receptive field" in page
    out = tmp_path / "layers.json"
    assert main(["inspect", "test_resnet", "--format", "json", "--flops", "--out", str(out)]) == 0
    record = json.loads(out.read_text("utf-8"))
    assert record["FLOPs"] == sum(row["FLOPs"] for row in record["layers"]) and capsys.readouterr().out == ""
    assert main(["inspect", "test_resnet", "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_two_networks_and_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "test_resnet", "--compare", "test_convnext", "--size", "64", "64", "--time"]) == 0
    page = capsys.readouterr().out
    assert "ratio" in page and page.count("median") == 2 and " ms" in page


def test_the_effective_field_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "field.png"
    assert main(["inspect", "test_resnet", "--size", "64", "64", "--effective", str(out), "--layer", "layer1"]) == 0
    drawn = np.asarray(Image.open(out))
    assert drawn.shape == (448, 448, 3) and (drawn == 255).all(-1).any(), "the theoretical field is a rectangle"
    assert "effective field" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test_resnet", "--layer", "layer1"], "--effective"),
        (["test_resnet", "--effective", "a.jpg"], ".png"),
        (["test_resnet", "--size", "0", "5"], "at least 1"),
        (["test_resnet", "--effective", "new.png", "--layer", "layer9"], "'layer4'"),
        (["test_resnet", "--effective", "new.png", "--layer", "fc"], "not a map"),
        (["resnett18"], "'resnet18'"),
    ],
)
def test_what_cannot_be_inspected(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "needs_image", "message"),
    [
        (["test_resnet", "--features", "layer2"], True, "maps of layer2"),
        (["test_resnet", "--filters"], False, "filters of backbone.model.conv1"),
        (["test_resnet", "--cam", "grad-cam++", "--class", "goldfish"], True, "evidence for goldfish"),
        (["test_resnet", "--occlusion"], True, "evidence for"),
        (["test_vit", "--cam", "attention-rollout"], True, "evidence for"),
    ],
)
def test_images_in_place_of_the_report(
    arguments: list[str],
    needs_image: bool,
    message: str,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *options = arguments
    out = tmp_path / "out.png"
    given = [str(photo)] if needs_image else []
    assert main(["inspect", name, *given, *options, "--out", str(out)]) == 0, capsys.readouterr().err
    assert message in capsys.readouterr().out
    assert np.asarray(Image.open(out)).std() > 1


def test_a_map_of_a_folder_and_an_image_for_a_channel(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        Image.open(photo).rotate(90 * number).save(tmp_path / f"{number}.png")
    out = tmp_path / "map" / "map.png"
    out.parent.mkdir()
    assert main(["inspect", "test_resnet", "--embed", str(tmp_path), "--out", str(out)]) == 0
    assert "4 images" in capsys.readouterr().out
    assert len(out.with_suffix(".csv").read_text("utf-8").splitlines()) == 5
    assert main(["inspect", "test_resnet", "--maximize", "conv1.0:3", "--out", str(out), "--overwrite"]) == 0
    assert "channel 3 of conv1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["test_resnet", "photo.png"], 2, "--features"),
        (["test_resnet", "--features", "layer1", "--out", "a.png"], 2, "give an image"),
        (["test_resnet", "--filters"], 2, "--out FILE"),
        (["test_resnet", "nowhere.png", "--occlusion", "--out", "a.png"], 3, "no such file"),
        (["test_resnet", "--maximize", "layer1:x", "--out", "a.png"], 2, "LAYER:CHANNEL"),
    ],
)
def test_what_cannot_be_shown(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *arguments]) == status
    assert message in capsys.readouterr().err
