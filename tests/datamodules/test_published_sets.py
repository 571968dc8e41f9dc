"""The commands of docs/datasets.md for published sets, on small stand-ins for their files."""

import shlex
from pathlib import Path

import pytest

from tests.datamodules import test_cifar, test_fashion_mnist
from tests.documented import blocks
from tests.real_data import ROOT
from ui.cli import main

PAGE = ROOT / "docs" / "datasets.md"


def commands(word: str) -> list[str]:
    found = [
        c for block in blocks(PAGE.name, PAGE.read_text("utf-8")) for c in block.commands() if f"--data {word}" in c
    ]
    assert found, f"docs/datasets.md shows no command with {word}"
    return found


@pytest.mark.parametrize("word", ["CifarData", "FashionMnistData"])
def test_the_shown_command_runs(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "cifar").mkdir()
    (tmp_path / "fashion").mkdir()
    test_cifar.write(tmp_path / "cifar", "cifar10", "python", packed=True)
    test_fashion_mnist.write(tmp_path / "fashion")
    monkeypatch.chdir(tmp_path)
    for command in commands(word):
        short = [
            "--model.backbone",
            "test_resnet",
            "--trainer.max_epochs",
            "1",
            "--data.batch_size",
            "8",
            "--trainer.accelerator",
            "cpu",
        ]
        assert main([*shlex.split(command)[1:], *short]) == 0
        assert list((tmp_path / "runs").rglob("*.ckpt"))
