"""`visionkit export` and `visionkit models`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ui.cli import main
from ui.commands import models as listing


def test_a_checkpoint_becomes_a_bundle_that_predicts_the_same(
    models: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionkit.predictor import load

    checkpoint, out = models / "run" / "checkpoints" / "last.ckpt", tmp_path / "bundle"
    card = tmp_path / "card.yaml"
    card.write_text("name: Six\nterms: free\nseed: 7\n")
    assert main(["export", str(checkpoint), "--out", str(out), "--card", str(card)]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    facts = json.loads((out / "model.json").read_text("utf-8"))
    assert facts["card"] == {"name": "Six", "terms": "free", "seed": 7}
    assert load(out)(images[0]) == load(checkpoint)(images[0])

    assert main(["export", str(checkpoint), "--out", str(out)]) == 2
    assert main(["export", str(out), "--out", str(tmp_path / "half"), "--half"]) == 0
    again = json.loads((tmp_path / "half" / "model.json").read_text("utf-8"))
    assert again["card"] == facts["card"] and again["weights"]["dtype"] == "float16"


def test_bad_cards_and_calibration(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(models / "good"), "--out", str(tmp_path / "out")]
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    for file in ("gone.yaml", "list.yaml", "broken.yaml"):
        assert main([*arguments, "--card", str(tmp_path / file)]) == 3
        message = capsys.readouterr().err
        assert file in message and message.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert main([*arguments, "--int8", "--calibrate", str(tmp_path / "empty")]) == 3
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lists are made once for this module, and kept where a user's cache would be."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder
    patch.undo()


def test_the_list_is_kept_and_a_spoilt_one_made_again(cache: Path) -> None:
    first = listing.known()
    (kept,) = (cache / "visionkit").iterdir()
    assert listing.known() == first and len(first.backbones) > 1000 and "classification" in first.schemes["timm"]
    assert {"lenet5", "resnet50"} <= set(first.backbones) and "a1_in1k" in first.backbones["resnet50"]
    for spoilt in ("", "[]", '{"backbones": {}}'):
        kept.write_text(spoilt)
        assert listing.known() == first


def test_models_are_listed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--models", str(models)]) == 0
    page = capsys.readouterr().out
    assert "Distinguishes six things." in page and "last.ckpt" in page and "timm:NAME" in page
    assert page.count("cannot be used") == 2
    assert main(["models", "resnet50", "--models", str(models)]) == 0
    page = capsys.readouterr().out
    assert "  resnet50  " in page and "good" not in page
    assert main(["models", "resnet50.a*", "--weights"]) == 0
    assert "resnet50.a1_in1k" in capsys.readouterr().out
    assert main(["models", "vit"]) == 0
    page = capsys.readouterr().out
    assert "--all" in page and len(page.splitlines()) < 70
    assert main(["models", "vit", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 200


def test_an_unknown_model_is_reported_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "resnt50"]) == 2
    assert "did you mean 'resnet50'" in capsys.readouterr().err
    assert main(["models", "--models", str(tmp_path / "gone")]) == 2


def test_the_model_registry_fractions_bounds_and_renews(models: Path, tmp_path: Path) -> None:
    from ui.model_registry import ModelRegistry
    from visionkit.errors import CheckpointError, UsageError

    folder = tmp_path / "own"
    shutil.copytree(models / "good", folder / "one")
    for name in ("two", "three"):
        shutil.copytree(models / "good", folder / name)
    weights = (folder / "one" / "model.safetensors").stat().st_size
    model_registry = ModelRegistry(folder, memory=int(2.5 * weights))
    one = model_registry.get("one")
    assert model_registry.get("one") is one and list(model_registry) == [] and model_registry.loaded("one") is None
    for name in ("one", "two", "one", "three"):
        loaded = model_registry.get(name)
        with loaded.lock:
            loaded.predictor()
    assert list(model_registry) == ["one", "three"] and model_registry.get("one") is one is model_registry.loaded("one")
    assert weights < model_registry.size <= model_registry.memory
    with one.lock:  # it computes: what nobody uses goes first, though it was used later
        two = model_registry.get("two")
        with two.lock:
            two.predictor()
    assert list(model_registry) == ["one", "two"]
    with pytest.raises(CheckpointError, match="--memory-mb"):
        ModelRegistry(folder, memory=weights // 2).get("one")
    with pytest.raises(UsageError, match="downloads no public models"):
        ModelRegistry(folder, public=False).get("timm:resnet50")
    for number in range(100):
        model_registry.get(f"timm:made_up_{number}")
    assert len(model_registry._loaded) < 40 and list(model_registry) == ["one", "two"]
    weights = folder / "one" / "model.safetensors"
    import os

    os.utime(weights, (1, 1))
    assert model_registry.get("one") is not one
    for outside in ("../own/one", str(folder / "one"), "/etc/passwd", "file:///etc/passwd", "timm:../../x", "http://x"):
        with pytest.raises(UsageError, match="unknown model"):
            model_registry.get(outside)
    assert model_registry.entry("timm:resnet50").path == "timm:resnet50"
    with pytest.raises(UsageError, match="did you mean 'three'"):
        model_registry.get("tree")
