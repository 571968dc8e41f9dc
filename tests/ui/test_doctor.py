"""`visionkit doctor`: what it prints and writes, its status, and how it is given its data."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from datamodules.opening import open_data
from tests.visionkit.checkup.drawn_set import copied, write_clean
from tests.visionkit.checkup.object_faults import FAULTS
from ui.cli import main
from visionkit.callbacks.config_saver import ConfigSaver
from visionkit.checkup.before_training import warn_before_training


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("drawn") / "clean")


def test_a_clean_set_is_silent_and_ends_with_0(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(clean / "classification"), "--strict", "--num_workers", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("nothing found in 30 images") and "read as FolderData" in printed.err


def test_errors_end_with_3_and_are_written(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FAULTS["degenerate-box"](copied(clean, tmp_path))
    files = ["--json", str(tmp_path / "found.json"), "--html", str(tmp_path / "found.html")]
    assert main(["doctor", str(tmp_path / "set"), "--num_workers", "0", *files]) == 3
    printed = capsys.readouterr().out
    assert "error    degenerate-box: 1 box in train" in printed and "-> draw the box again" in printed
    record = json.loads((tmp_path / "found.json").read_text("utf-8"))
    (one,) = (each for each in record["findings"] if each["kind"] == "degenerate-box")
    assert record["errors"] == 1 and one["file"].endswith(".jpg") and one["object"] >= 1 and len(one["box"]) == 4
    page = (tmp_path / "found.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == len(record["findings"]) and "http" not in page
    assert main(["doctor", str(tmp_path / "set"), *files]) == 2 and "--overwrite" in capsys.readouterr().err
    arguments = ["--num_workers", "0", "--ignore", "errors"]
    assert main(["doctor", str(tmp_path / "set"), *arguments]) == 0


def test_warnings_end_with_3_where_it_is_strict(clean: Path, tmp_path: Path) -> None:
    FAULTS["near-duplicate-across"](copied(clean, tmp_path))
    arguments = ["doctor", str(tmp_path / "set" / "classification"), "--num_workers", "0"]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 3
    assert main([*arguments, "--strict", "--select", "errors"]) == 0


def test_a_configuration_names_data_and_network(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "CocoData", "--data.root", str(clean), "--data.images", "images/{split}"]
    model = ["-c", "detection", "--model.backbone", "test_resnet", "--model.input.size", "[32,32]"]
    assert main(["doctor", *model, *data, "--num_workers", "0"]) == 0
    assert "warning  small-objects" in capsys.readouterr().out
    config = tmp_path / "own.yaml"
    config.write_text(f"data:\n  class_path: FolderData\n  init_args: {{root: {clean / 'classification'}}}\n")
    assert main(["doctor", str(config), "--num_workers", "0"]) == 0 and "nothing found" in capsys.readouterr().out
    labels = ["--data.classes", "[car, bus]"]
    assert main(["doctor", "--data", "FolderData", str(clean / "classification"), *labels, "--num_workers", "0"]) == 3
    assert "is not among data.classes (car, bus)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the data"),
        (["here", "--data.root", "x"], "--data CLASS"),
        (["here", "--ignore", "blank-imag"], "'blank-image'"),
        (["here", "--json", "nofolder/a.json"], "no folder"),
        (["here", "--max_images", "-1"], "at least 0"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", *arguments]) in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inside", "reader"),
    [
        ("classification", "FolderData"),
        ("faces", "IdentityData"),
        ("annotations/instances_train.json", "CocoData"),
        ("annotations/person_keypoints_val.json", "CocoKeypointData"),
        ("labels.csv", "CsvData"),
        ("high_res", "PlainImageData"),
    ],
)
def test_the_reader_is_found_out(inside: str, reader: str, clean: Path) -> None:
    assert type(open_data(clean / inside)).__name__ == reader


def test_readers_of_maps_are_found_out(clean: Path, tmp_path: Path) -> None:
    for name in ("images", "label_maps"):
        shutil.copytree(clean / name, tmp_path / "maps" / name)
    assert type(open_data(tmp_path / "maps")).__name__ == "LabelMapData"
    (tmp_path / "maps" / "label_maps" / "classes.txt").unlink()
    assert open_data(tmp_path / "maps").classes[0] == "value 0"
    for name in ("images", "depth"):
        shutil.copytree(clean / name / "train", tmp_path / "depth" / name)
    assert type(open_data(tmp_path / "depth")).__name__ == "DepthFolderData"


def test_a_training_warns_before_it_starts(clean: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_before_training(copied(clean, tmp_path / "a").objects(), ["train", "val"])
        assert not caplog.messages
        data = FAULTS["duplicate-annotation"](copied(clean, tmp_path / "b"))
        data.trainer = SimpleNamespace(callbacks=[ConfigSaver(tmp_path, {})])  # type: ignore[assignment]
        warn_before_training(data, ["train"])
    first, second = caplog.messages
    assert first.startswith("duplicate-annotation: 1 object in train, such as ")
    assert second == f"`visionkit doctor -c {tmp_path / 'config.yaml'}` examines the data whole"


def test_images_of_a_lost_file_are_left_out_of_the_page(clean: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name, side in (("cat", 3), ("dog", 3)):
        for number in range(side):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((40, 50), 80).convert("RGB").save(root / name / f"{number}.png")
    (root / "cat" / "0.png").write_bytes(b"\x89PNG nothing")
    page = tmp_path / "found.html"
    assert main(["doctor", str(root), "--num_workers", "0", "--html", str(page)]) == 3
    assert "unreadable-image" in page.read_text("utf-8")
