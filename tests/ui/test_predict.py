"""`visionkit predict`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ui.conftest import CLASSES
from ui.cli import main
from ui.file_names import drawing_names
from ui.prediction_records import RECORDS
from ui.prediction_report import FEW
from visionkit.errors import DataError


@pytest.fixture
def mixed(tmp_path: Path, images: list[Path], bad: dict[str, Path]) -> Path:
    """A folder of folders with same-named images and three broken ones."""
    folder = tmp_path / "in"
    for place in ("a", "b"):
        (folder / place).mkdir(parents=True)
        shutil.copy(images[5], folder / place / "same.jpg")
    shutil.copy(images[8], folder / "a" / "same.png")
    for name in ("truncated", "zero", "text"):
        shutil.copy(bad[name], folder / "b" / f"{name}.jpg")
    return folder


def _records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / RECORDS).read_text("utf-8").splitlines()]


def test_bad_images_are_reported_and_skipped_and_the_rest_is_done(
    mixed: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(models / "good"), str(mixed), "--out", str(out), "--draw", "--batch-size", "2"]) == 3
    message = capsys.readouterr()
    skipped = [line for line in message.err.splitlines() if "skipped: " in line and not line.startswith("3 images")]
    assert len(skipped) == 3 and all(any(name in line for line in skipped) for name in ("truncated", "zero", "text"))
    assert f"3 images, 3 skipped: {out / RECORDS}" in message.err
    assert "same.png" in message.out and "%" in message.out
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert names == ["drawn/a/same.jpg", "drawn/a/same.png.jpg", "drawn/b/same.jpg", RECORDS]
    with Image.open(out / "drawn" / "a" / "same.jpg") as drawn:
        height, width = _records(out)[0]["size"]
        assert drawn.height / drawn.width == pytest.approx(height / width, abs=0.02)  # small images are drawn larger


def test_records_equal_the_predictor_to_the_digit(
    models: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.images import ImageSource
    from visionkit.predictor import load

    model = models / "run" / "checkpoints" / "last.ckpt"
    arguments = ["predict", str(model), *map(str, images), "--batch-size", "1"]
    assert main(arguments) == 0
    message = capsys.readouterr()
    predictor = load(model)
    records = [json.loads(line) for line in message.out.splitlines()]
    assert [record["source"] for record in records] == list(map(str, images))
    for path, record in zip(images, records, strict=True):
        assert record["size"] == list(ImageSource(path).size)
        assert record["prediction"] == predictor(path).to_json()
    assert message.err == ""


def test_top_cuts_the_record_and_several_predictors_keep_the_order(
    models: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(models / "good"), str(images[0]), "--top", "2"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    fractions = record["prediction"]["probabilities"]
    assert (
        len(fractions) == 2
        and set(fractions) < set(CLASSES)
        and list(fractions.values()) == sorted(fractions.values())[::-1]
    )

    from ui.prediction_devices import predictions
    from visionkit.predictor import load

    predictors = [load(models / "good") for _ in range(2)]
    message = list(predictions(predictors, images * 2, batch_size=1))
    assert [path for path, _, _ in message] == images * 2
    assert [result.prediction for _, _, result in message[:20]] == [predictors[0](path) for path in images]


def test_an_image_named_twice_is_predicted_once_and_many_make_no_table(
    models: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(FEW + 1):
        shutil.copy(images[15], many / f"{number:02d}.gif")
    out = tmp_path / "out"
    assert main(["predict", str(models / "good"), str(many), str(many / "*.gif"), "--out", str(out)]) == 0
    assert len(_records(out)) == FEW + 1
    message = capsys.readouterr()
    assert message.out == "" and f"{FEW + 1} images: " in message.err


def test_results_below_the_source_are_not_predicted_again(models: Path, images: list[Path], tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "photos" / "out"
    photos.mkdir()
    shutil.copy(images[15], photos / "a.gif")
    line = ["predict", str(models / "good"), str(photos), "--out", str(out), "--draw"]
    assert main(line) == 0
    assert len(list((out / "drawn").iterdir())) == 1
    for source in (str(photos), str(photos / "**" / "*.[gj]*[fg]"), str(out.parent)):
        assert main([*line[:2], source, *line[3:], "--overwrite"]) == 0
        assert [Path(record["source"]).name for record in _records(out)] == ["a.gif"]
    assert main([*line[:2], str(out / "drawn"), "--out", str(tmp_path / "other")]) == 0, "who names it gets it"


def test_records_are_not_overwritten_unless_allowed(models: Path, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text("precious")
    arguments = ["predict", str(models / "good"), str(images[0]), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert (tmp_path / RECORDS).read_text() == "precious"
    assert main([*arguments, "--overwrite"]) == 0
    assert len(_records(tmp_path)) == 1
    again = [*arguments[:-1], str(tmp_path / "again")]
    assert main([*again, "--set", "tpo=1"]) == 2, "what was refused leaves nothing that stands in the way"
    assert main(again) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("truncated", "truncated"), ("zero", "0 bytes"), ("text", "not an image"), ("bomb", "169 megapixels")],
)
def test_a_bad_image_alone(
    name: str, said: str, bad: dict[str, Path], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(models / "good"), str(bad[name])]) == 3
    message = capsys.readouterr()
    assert message.out == "" and message.err.count("\n") == 1 and said in message.err and str(bad[name]) in message.err


def test_sources_without_an_image(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for source, said in ((tmp_path, "no images in this folder"), (tmp_path / "x.jpg", "no such file")):
        assert main(["predict", str(models / "good"), str(source)]) == 3
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1


def test_a_missing_source_among_others_is_reported(
    tmp_path: Path, models: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(models / "good"), str(tmp_path / "gone.jpg"), str(images[0])]) == 3
    message = capsys.readouterr()
    assert len(message.out.splitlines()) == 1 and "gone.jpg" in message.err


def _foreign(folder: Path) -> dict[str, tuple[str, int, str]]:
    import torch

    torch.save({"state_dict": {"w": torch.ones(1)}}, folder / "other.ckpt")
    torch.save({"model": Path("x")}, folder / "objects.ckpt")
    (folder / "zero.ckpt").write_bytes(b"")
    return {
        "another program's": (str(folder / "other.ckpt"), 4, "another program"),
        "objects": (str(folder / "objects.ckpt"), 4, "can run code"),
        "empty": (str(folder / "zero.ckpt"), 4, "0 bytes"),
        "missing": (str(folder / "othr.ckpt"), 4, "did you mean 'other.ckpt'"),
        "no bundle": (str(folder), 4, "folder"),
        "unknown public name": ("timm:resnt50", 2, "did you mean 'resnet50"),
        "unknown scheme": ("tim:resnet50", 2, "did you mean 'timm'"),
    }


def test_models_that_cannot_be_used(tmp_path: Path, images: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for name, (model, status, said) in _foreign(tmp_path).items():
        assert main(["predict", model, str(images[0])]) == status, name
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and said in message, (name, message)


def test_what_this_machine_lacks(
    tmp_path: Path, models: Path, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(models / "good"), str(images[0])]
    assert main([*arguments, "--devices", "99"]) == 5
    assert "--devices 99" in capsys.readouterr().err
    assert main([*arguments, "--engine", "onnx"]) == 4
    assert "--onnx" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*arguments, "--out", str(tmp_path / "file" / "below")]) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_a_full_disk_ends_with_one_line(
    models: Path,
    images: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = Path("/dev/full")
    if not (full.exists() and stat.S_ISCHR(full.stat().st_mode)):
        pytest.skip("no /dev/full here to stand for a full disk")
    (tmp_path / "part").symlink_to(full)
    monkeypatch.setattr("visionkit.atomic.beside", lambda target: tmp_path / "part")
    assert main(["predict", str(models / "good"), str(images[0]), "--out", str(tmp_path), "--overwrite"]) == 5
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "No space left" in message


def test_drawings_never_meet(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.jpg", "a.png", "a.png.jpg", "A.JPG", "b/a.jpg", "b/c/a.jpg")]
    names = drawing_names(paths)
    assert len({str(name).lower() for name in names.values()}) == len(paths)
    assert names[paths[0]] == Path("a.jpg") and names[paths[5]] == Path("b/c/a.jpg")
    assert drawing_names(paths[5:]) == {paths[5]: Path("a.jpg")}


def test_images_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    """In COCO's results: a number of its own each, and with a label file never the id of another folder's image."""
    from ui.coco_results import CocoResults
    from visionkit.predictions import Detections

    one = np.ones(1)
    prediction = Detections(("a",), (9, 9), np.array([[0, 0, 4, 4.0]]), one, np.zeros(1, int))
    coco = CocoResults(tmp_path)
    for name in ("a/000001.jpg", "b/000001.jpg", "2.jpg", "b/1.png", "x/cat.jpg", "y/cat.jpg", "x/²3.jpg"):
        coco.add(Path(name), prediction, (9, 9))
    ids = [image["id"] for image in coco.images]
    assert ids == [1, 2, 3, 4, "cat", "cat-2", "²3"] and [row["image_id"] for row in coco.results] == ids
    labels = {
        "images": [
            {"id": 5, "file_name": "a/1.jpg"},
            {"id": 6, "file_name": "b/1.jpg"},
            {"id": 7, "file_name": "2.jpg"},
        ],
        "annotations": [],
        "categories": [{"id": 3, "name": "a"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    known = CocoResults(tmp_path, tmp_path / "labels.json")
    for name in ("p/b/1.jpg", "p/a/1.jpg", "elsewhere/2.jpg"):
        known.add(Path(name), prediction, (9, 9))
    assert [row["image_id"] for row in known.results] == [6, 5, 7]
    with pytest.raises(DataError, match="no image"):
        known.add(Path("c/1.jpg"), prediction, (9, 9))
    with pytest.raises(DataError, match="a second image"):
        known.add(Path("again/2.jpg"), prediction, (9, 9))
