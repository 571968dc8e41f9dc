"""Images that are split off the training images: reported in one way, kept in checkpoints, never trained on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.coco import CocoData
from datamodules.csv_labels import CsvData
from datamodules.depth_folders import DepthFolderData
from datamodules.folders import FolderData
from datamodules.identities import IdentityData
from datamodules.joint import JointData
from datamodules.segmentation import LabelMapData
from datamodules.super_resolution import SuperResolutionData
from datamodules.voc import VocData
from tests.datamodules.annotation_sets import SETS
from ui.cli import main
from visionkit.checkpoint import read_model
from visionkit.data import VisionDataModule
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec((32, 32), crop_fraction=1.0)
Make = Callable[..., VisionDataModule]


def image(path: Path, seed: int, levels: int = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, levels, (20, 24, 3) if levels > 2 else (20, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folders(root: Path) -> None:
    for number in range(24):
        image(root / f"class {number % 2}" / f"{number:03d}.png", number)


def reader(kind: str, root: Path) -> Make:
    """Writes a set without splits, and returns what opens it with options of its own."""
    if kind == "coco":
        SETS["coco alone"](root)
        return lambda **more: CocoData(str(root), input=SPEC, **more)
    if kind == "voc":
        SETS["voc"](root)
        for listed in root.glob("**/ImageSets/*/*.txt"):
            listed.unlink()
        return lambda **more: VocData(str(root), input=SPEC, **more)
    folders(root)
    if kind == "csv":
        rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.glob("*/*.png"))]
        (root / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
        return lambda **more: CsvData(str(root / "labels.csv"), input=SPEC, **more)
    if kind == "maps":
        for path in sorted(root.glob("*/*.png")):
            image(root / "labels" / path.relative_to(root), 0, 2)
        (root / "images").mkdir()
        for path in root.glob("class*"):
            path.rename(root / "images" / path.name)
        return lambda **more: LabelMapData(
            str(root), images="images", labels="labels", classes=["no", "yes"], input=SPEC, **more
        )
    if kind == "resolution":
        return lambda **more: SuperResolutionData(str(root), patch_size=4, input=SPEC, **more)
    if kind == "people":
        for number in range(24):
            image(root / f"person {number % 6}" / f"{number:03d}.png", number)
        shutil.rmtree(root / "class 0")
        shutil.rmtree(root / "class 1")
        return lambda **more: IdentityData(str(root), input=SPEC, **more)
    if kind == "joint":
        return lambda **more: JointData({"what": FolderData(str(root), **more)}, input=SPEC)
    return lambda **more: FolderData(str(root), input=SPEC, **more)


KINDS = ("folders", "csv", "coco", "voc", "maps", "resolution", "people", "joint")


def evaluate(data: VisionDataModule, stage: str, made: dict[str, Any]) -> None:
    """What the trainer does before it evaluates a model whose checkpoint states how its images were split."""
    task = SimpleNamespace(card={"splits": made} if made else {})
    data.trainer = SimpleNamespace(lightning_module=task)  # type: ignore[assignment]
    data.setup(stage)


def trained(data: VisionDataModule) -> dict[str, Any]:
    data.setup("fit")
    return data.splits_made


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_not_evaluated_on_images_that_it_was_trained_on(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make = reader(kind, tmp_path / "set")
    made = trained(make(val_fraction=0.3))
    with pytest.raises(UsageError, match=r"trained on these images with data.test_fraction 0.* validate --ckpt_path"):
        evaluate(make(val_fraction=0.3, test_fraction=0.3), "test", made)
    with pytest.raises(UsageError, match=r"data.split_seed 0, so the val images .* leave these options"):
        evaluate(make(val_fraction=0.3, split_seed=1), "validate", made)
    evaluate(make(val_fraction=0.3), "validate", made)
    assert "split off" not in caplog.text
    made = trained(make(val_fraction=0.3, test_fraction=0.3))
    evaluate(make(val_fraction=0.3, test_fraction=0.3), "test", made)
    assert "split off" not in caplog.text
    with pytest.raises(UsageError, match=r"data.val_fraction 0.3, so the test images"):
        evaluate(make(val_fraction=0.0, test_fraction=0.3), "test", made)


def test_depth_that_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / "images" / f"{number:03d}.png", number)
        (tmp_path / "depth").mkdir(exist_ok=True)
        np.save(tmp_path / "depth" / f"{number:03d}.npy", np.full((20, 24), 1 + number / 10, np.float32))
    made = trained(DepthFolderData(str(tmp_path), input=SPEC))
    with pytest.raises(UsageError, match=r"data.test_every 5: .* data.test_every 0.* train with --data.test_every 8"):
        evaluate(DepthFolderData(str(tmp_path), test_every=5, input=SPEC), "test", made)
    with pytest.raises(UsageError, match=r"no test split and data.test_every is 0; `visionkit validate"):
        evaluate(DepthFolderData(str(tmp_path), input=SPEC), "test", made)
    evaluate(data := DepthFolderData(str(tmp_path), input=SPEC), "validate", made)
    assert data.summary("val").source.endswith("which names no val split")


def test_the_folder_may_move_and_other_data_is_not_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make = reader("folders", tmp_path / "set")
    made = trained(make())
    (tmp_path / "set").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="the model was trained on these images"):
        evaluate(FolderData(str(tmp_path / "moved"), test_fraction=1, input=SPEC), "test", made)
    for number, path in enumerate(sorted((tmp_path / "moved").glob("*/*.png"))):
        image(path, 100 + number)
        path.write_bytes(path.read_bytes() + b"x" * number)  # another size: other images of the same names
    other = FolderData(str(tmp_path / "moved"), test_fraction=1, input=SPEC)
    with caplog.at_level(logging.WARNING):
        evaluate(other, "test", made)
    assert len(other.samples("test")) == 24 and "trained on other data (24 images)" in caplog.text
    caplog.clear()
    evaluate(FolderData(str(tmp_path / "moved"), test_fraction=0.5, input=SPEC), "test", {})
    assert "does not state how its training data was split" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_test_split_is_said_in_one_way(kind: str, tmp_path: Path) -> None:
    data = reader(kind, tmp_path / "set")()
    with pytest.raises(UsageError, match=r"no test split and data\.test_fraction is 0; `visionkit validate "):
        data.samples("test")
    assert not data.has_test


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("people", "joint")])
def test_where_a_split_comes_from_is_said_in_one_way(kind: str, tmp_path: Path) -> None:
    summary = reader(kind, tmp_path / "set")(val_fraction=0.25).summary("val")
    assert summary.source.startswith("25% of ") and summary.source.endswith("which names no val split")


def test_the_training_split_is_not_read_for_a_test_that_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for k in range(4):
            image(tmp_path / split / f"class {k % 2}" / f"{k}.png", 10 * number + k)
    made = trained(FolderData(str(tmp_path), input=SPEC))
    read: list[str] = []

    class Watched(FolderData):
        def files(self, split: Any) -> Any:
            read.append(split)
            return super().files(split)

    evaluate(Watched(str(tmp_path), input=SPEC), "test", made)
    assert read == ["test"]
    evaluate(Watched(str(tmp_path), input=SPEC), "test", {})
    assert read[1:] == ["test", "train"]
    shutil.copy(tmp_path / "train" / "class 0" / "0.png", tmp_path / "test" / "class 0" / "0.png")
    made = trained(FolderData(str(tmp_path), input=SPEC))
    assert "train and test share 1 of 4 images" in caplog.text  # before anything is trained
    caplog.clear()
    evaluate(Watched(str(tmp_path), input=SPEC), "test", made)
    assert "train and test share 1 of 4 images" in caplog.text


def test_a_run_keeps_how_it_was_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folders(tmp_path / "set")
    small = ["--model.backbone", "test_resnet", "--model.input.size", "[32,32]", "--trainer.max_epochs", "1"]
    data = ["--data", "FolderData", "--data.root", "set", "--data.batch_size", "4", "--trainer.accelerator", "cpu"]
    assert main(["fit", "-c", "classification", *small, *data, "--run", "r"]) == 0
    message = capsys.readouterr().out
    assert "next: visionkit validate --ckpt_path r (the data has no test split)" in message
    card = read_model("r/checkpoints/last.ckpt").card
    assert card["splits"]["val_fraction"] == 0.1 and card["splits"]["number"] == 24
    assert main(["test", "--ckpt_path", "r", "--data.test_fraction", "0.2"]) == 2
    assert "the model was trained on these images with data.test_fraction 0" in capsys.readouterr().err
    assert main(["validate", "--ckpt_path", "r"]) == 0
    again = ["fit", "-c", "r/config.yaml", "--ckpt_path", "last", "--run", "r", "--trainer.max_epochs", "2"]
    capsys.readouterr()
    assert main([*again, "--data.split_seed", "3"]) == 2
    assert "data.split_seed 0, so the val images" in capsys.readouterr().err
    assert main(["export", "r/checkpoints/last.ckpt", "--out", "m"]) == 0
    assert read_model("m").card["splits"] == card["splits"] and "Splits" not in Path("m/README.md").read_text()
