"""What can be inspected: backbones, tasks with an architecture, configurations, checkpoints and bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_data import ROOT
from visionkit.checkpoint import load_task, save_checkpoint
from visionkit.errors import UsageError
from visionkit.inspection import inspect_network, open_target

BUNDLE = ROOT / "ui/starters/super_resolution/x2"


def test_a_backbone_by_name_at_its_training_size() -> None:
    for name in ("resnet18", "timm:resnet18"):
        target = open_target(name)
        assert target.shapes == ((1, 3, 224, 224),) and next(target.network.parameters()).is_meta
        assert inspect_network(target.network, target.inputs()).parameters == 11_689_512
    assert open_target("test_vit", (96, 64)).shapes == ((1, 3, 96, 64),)
    assert open_target("lenet5").shapes == ((1, 1, 32, 32),)


@pytest.mark.parametrize(
    "name", ["semantic_segmentation:fcn", "super_resolution:espcn", "pose:simple_baseline", "classification:"]
)
def test_an_architecture_of_a_task(name: str) -> None:
    target = open_target(name, (64, 96))
    assert target.shapes[0][-2:] == (64, 96) and target.task is not None
    report = inspect_network(target.network, target.inputs())
    assert report.multiply_adds > 0 and report.parameters == sum(p.numel() for p in target.network.parameters())


def test_a_network_that_needs_values_is_run_with_memory() -> None:
    target = open_target("detection:ssd", (64, 64))
    assert not next(target.network.parameters()).is_meta
    assert inspect_network(target.network, target.inputs()).multiply_adds > 0


def test_configurations_by_name_and_by_path(tmp_path: Path) -> None:
    named = open_target("t91_srcnn_x3")
    assert inspect_network(named.network, named.inputs()).parameters == 8_129
    path = tmp_path / "own.yaml"
    arguments = "{backbone: test_resnet, pretrained: true}"
    path.write_text(f"model: {{class_path: SemanticSegmentationTask, init_args: {arguments}}}")
    assert open_target(str(path), (64, 64)).task is not None
    path.write_text("model: {class_path: SegmentationTask}")
    with pytest.raises(UsageError, match="SemanticSegmentationTask"):
        open_target(str(path))


def test_bundles_and_checkpoints_with_and_without_weights(tmp_path: Path) -> None:
    task = load_task(BUNDLE)
    path = save_checkpoint(task, tmp_path / "last.ckpt")
    expected = sum(each.numel() for each in task.network.parameters())
    for source in (BUNDLE, path):
        target = open_target(str(source), (32, 40))
        assert inspect_network(target.network, target.inputs()).parameters == expected
    weights = open_target(str(path), weights=True).network.state_dict()
    assert all(bool((weights[name] == value).all()) for name, value in task.network.state_dict().items())


@pytest.mark.parametrize(
    ("source", "nearest"), [("resnet81", "resnet18"), ("detection:fcoss", "fcos"), ("classification:fcos", "one")]
)
def test_unknown_names(source: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=nearest):
        open_target(source)
