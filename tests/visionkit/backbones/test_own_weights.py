"""Weights of one's own file: found under any prefix, reported, and refused where they are another network's."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tasks.classification import ClassificationTask
from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.backbone_task import BackboneTask
from visionkit.backbones import Backbone
from visionkit.bundle import save_bundle
from visionkit.checkpoint import load_task, save_checkpoint
from visionkit.errors import CheckpointError, UsageError
from visionkit.nn.normalize import Normalize
from visionkit.registry import task_class, task_names
from visionkit.signatures import complete


@pytest.fixture(scope="module")
def donor() -> torch.nn.Module:
    torch.manual_seed(11)
    return timm.create_model("test_resnet")


def _first(body: Backbone) -> torch.Tensor:
    return body.model.conv1[0].weight  # type: ignore[no-any-return]


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.body.", "model."])
@pytest.mark.parametrize("form", ["pth", "safetensors", "nested"])
def test_a_file_is_read_whatever_prefix_and_form_it_has(
    donor: torch.nn.Module, tmp_path: Path, prefix: str, form: str
) -> None:
    state = {f"{prefix}{name}": value.clone() for name, value in donor.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "nested" else state, path)
    body = Backbone("test_resnet", weights=path, num_classes=None)
    assert torch.equal(_first(body), donor.conv1[0].weight)
    assert torch.equal(body.model.fc.weight, donor.fc.weight)


@pytest.mark.parametrize("form", ["checkpoint", "bundle"])
def test_the_backbone_of_another_tasks_model_comes_with_its_normalization(tmp_path: Path, form: str) -> None:
    torch.manual_seed(12)
    taught = SemanticSegmentationTask("test_resnet", classes=["a", "b"], input={"size": [32, 32]})
    taught.normalize = Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path = tmp_path / "model.ckpt" if form == "checkpoint" else tmp_path / "model"
    save_checkpoint(taught, path) if form == "checkpoint" else save_bundle(taught, path, card={})
    task = ClassificationTask("test_resnet", classes=["x", "y", "z"], weights=str(path))
    assert torch.equal(_first(task.network.backbone), _first(taught.network.backbone))
    assert task.normalize.mean == pytest.approx((0.1, 0.2, 0.3), abs=1e-6)
    assert task.normalize.std == pytest.approx((0.4, 0.5, 0.6), abs=1e-6)


def test_a_checkpoint_does_not_name_the_file_it_began_with(donor: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(donor.state_dict(), tmp_path / "weights.pth")
    task = ClassificationTask("test_resnet", classes=["x", "y"], pretrained=True, weights=str(tmp_path / "weights.pth"))
    save_checkpoint(task, tmp_path / "a.ckpt")
    (tmp_path / "weights.pth").unlink()
    again = load_task(tmp_path / "a.ckpt")
    assert again.config["weights"] is None
    assert torch.equal(_first(again.network.backbone), donor.conv1[0].weight)


@pytest.mark.parametrize("name", [name for name in task_names() if issubclass(task_class(name), BackboneTask)])
def test_every_task_with_a_backbone_takes_a_file(name: str) -> None:
    known = complete(task_class(name)).parameters
    assert known["weights"].default is None
    arguments = {"classes": ["a"]} if "classes" in known else {}
    arguments |= {"heads": {"depth": {"task": "depth"}}} if name == "multitask" else {}
    with pytest.raises((CheckpointError, UsageError), match=r"weights absent\.pth: no such file"):
        task_class(name).from_config({"backbone": "test_resnet", "weights": "absent.pth", **arguments})


def test_other_channels_adapt_the_first_layer(donor: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(donor.state_dict(), tmp_path / "weights.pth")
    gray = Backbone("test_resnet", weights=tmp_path / "weights.pth", in_chans=1)
    torch.testing.assert_close(_first(gray), donor.conv1[0].weight.sum(1, keepdim=True))


def test_what_matches_is_reported(donor: torch.nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "weights.pth"
    state = donor.state_dict()
    total = len(state)
    with caplog.at_level(logging.INFO):
        torch.save(state, path)
        Backbone("test_resnet", weights=path, num_classes=3)
    assert caplog.records[-1].levelno == logging.INFO  # a new classifier is no surprise
    assert f"{total - 2} of {total} tensors of test_resnet match; of another shape: fc.weight, fc.bias" in caplog.text
    first = next(iter(state))
    torch.save({"teacher.head": torch.zeros(2)} | {k: v for k, v in state.items() if k != first}, path)
    Backbone("test_resnet", weights=path, num_classes=None)
    assert caplog.records[-1].levelno == logging.WARNING
    assert f"{total - 1} of {total}" in caplog.messages[-1]
    assert f"missing: {first}; unexpected: teacher.head" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"weight": torch.zeros(2)}, "none of"),
        ({"state_dict": {"a": "text"}}, "none of"),
        ([torch.zeros(2)], "weights"),
        (timm.create_model("test_convnext").state_dict(), "do not fit"),
    ],
)
def test_what_is_no_weights_of_the_network_is_refused_in_one_line(tmp_path: Path, state: object, reason: str) -> None:
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=reason) as caught:
        Backbone("test_resnet", weights=tmp_path / "weights.pth")
    assert "\n" not in str(caught.value) and "weights.pth" in str(caught.value)


def test_a_pickle_with_code_and_numbers_that_are_not_finite_are_refused(donor: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(donor, path)
    with pytest.raises(CheckpointError, match="not a file of weights"):
        Backbone("test_resnet", weights=path)
    state = donor.state_dict()
    torch.save(state | {"conv1.0.weight": torch.full_like(state["conv1.0.weight"], float("nan"))}, path)
    with pytest.raises(CheckpointError, match=r"conv1\.0\.weight hold NaN"):
        Backbone("test_resnet", weights=path)
