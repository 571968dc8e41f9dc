"""Training on data or names that are wrong: one clear line, its exit status, and nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.real_data import ROOT
from ui.cli import main

FIT = ["fit", "-c", str(ROOT / "configs" / "task" / "classification.yaml"), "--trainer.max_epochs", "1"]
SMALL = ["--model.backbone", "test_resnet", "--model.input.size", "[32,32]", "--trainer.accelerator", "cpu"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve images of two classes, and a CSV of them."""
    monkeypatch.chdir(tmp_path)
    rows = ["path,label"]
    for label in ("cat", "dog"):
        folder = Path("photos") / label
        folder.mkdir(parents=True)
        for k in range(6):
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(
                folder / f"{k}.png"
            )
            rows.append(f"photos/{label}/{k}.png,{label}")
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def said(capsys, *arguments: str) -> tuple[int, str]:
    status = main([*FIT, *arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    return status, lines[0]


def test_a_missing_folder(photos, capsys):
    status, line = said(capsys, *SMALL, "--data", "FolderData", "--data.root", "fotos")
    assert status == 3 and "fotos: no such folder" in line


def test_a_folder_without_images(photos, capsys):
    for label in ("a", "b"):
        (photos / "empty" / label).mkdir(parents=True)
    status, line = said(capsys, *SMALL, "--data", "FolderData", "--data.root", "empty")
    assert status == 3 and "empty" in line and "no images" in line


def test_a_csv_that_names_a_missing_image(photos, capsys):
    with Path("labels.csv").open("a") as file:
        file.write("photos/cat/nowhere.png,cat\n")
    status, line = said(capsys, *SMALL, "--data", "CsvData", "--data.csv", "labels.csv")
    assert status == 3 and "photos/cat/nowhere.png" in line


def test_a_class_that_is_not_in_the_configuration(photos, capsys):
    Path("photos/cat/0.png").rename("photos/other.png")
    text = Path("labels.csv").read_text().replace("photos/cat/0.png,cat", "photos/other.png,dgo")
    Path("labels.csv").write_text(text)
    options = ["--data", "CsvData", "--data.csv", "labels.csv", "--data.classes", "[cat,dog]"]
    status, line = said(capsys, *SMALL, *options)
    assert status == 3 and "'dgo'" in line and "did you mean 'dog'" in line and "labels.csv" in line


def test_an_unknown_backbone(photos, capsys):
    status, line = said(capsys, "--data", "FolderData", "--data.root", "photos", "--model.backbone", "convnxt_tiny")
    assert status == 2 and "did you mean 'convnext_tiny'" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("num_workers", ["0", "1"])
def test_a_truncated_image_stops_training_with_its_name(num_workers, photos, capsys):
    path = Path("photos/cat/3.png")
    path.write_bytes(path.read_bytes()[:500])
    options = ["--data", "FolderData", "--data.root", "photos", "--data.val_fraction", "0.2", "--data.batch_size", "2"]
    options += ["--data.num_workers", num_workers, "--data.cache_mb", "0"]
    status, line = said(capsys, *SMALL, *options, "--run", "runs/a")
    assert len(line) < 200, "one line, whoever loaded it"
    assert status == 3 and "photos/cat/3.png" in line and "truncated" in line


def test_a_checkpoint_that_is_none(photos, capsys):
    Path("notes.ckpt").write_text("not a checkpoint")
    status, line = said(capsys, *SMALL, "--data", "FolderData", "--data.root", "photos", "--ckpt_path", "notes.ckpt")
    assert status == 4 and "notes.ckpt" in line


def test_last_needs_the_folder_of_a_run(photos, capsys):
    status, line = said(capsys, *SMALL, "--data", "FolderData", "--data.root", "photos", "--ckpt_path", "last")
    assert status == 2 and "--run" in line


def test_a_checkpoint_of_other_classes(photos, capsys):
    options = ["--data", "FolderData", "--data.root", "photos", "--data.val_fraction", "0.2", "--data.batch_size", "2"]
    assert main([*FIT, *SMALL, *options, "--run", "runs/a"]) == 0
    capsys.readouterr()
    Path("photos/cat").rename("photos/cow")
    status, line = said(capsys, *SMALL, *options, "--ckpt_path", "runs/a/checkpoints/last.ckpt", "--run", "runs/b")
    assert status == 2 and "class 0 is 'cat' and the data's is 'cow'" in line
