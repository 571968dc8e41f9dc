"""Weights of a trained model as the beginning of another one."""

from __future__ import annotations

import pytest
import torch

from tasks.classification import ClassificationTask
from tasks.detection import DetectionTask
from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.backbones import Backbone
from visionkit.checkpoint import save_checkpoint
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.warm_start import take_weights


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(1)
    task = ClassificationTask("test_resnet", classes=["a", "b", "c"])
    with torch.no_grad():
        task(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))  # statistics that are not those of a new one
    return task, str(save_checkpoint(task, tmp_path / "trained.ckpt"))


def test_all_but_a_head_for_other_classes_is_taken(trained):
    torch.manual_seed(2)
    task = ClassificationTask("test_resnet", classes=["a", "b", "c", "d", "e"])
    old, source = trained
    new = take_weights(task, source)
    assert new and all(".head." in name for name in new)
    state, given = task.state_dict(), old.state_dict()
    body = [name for name in given if name.startswith("network.backbone")]
    assert any("running" in name for name in body) and all(torch.equal(state[name], given[name]) for name in body)


@pytest.mark.parametrize("norms", [("batch", "frozen"), ("frozen", "batch"), ("frozen", "frozen")])
def test_normalization_is_taken_whole_frozen_or_not(norms, tmp_path):
    old, task = (
        DetectionTask(
            "test_resnet",
            classes=["a"],
            fcos={"neck_channels": 16, "convs": 1},
            backbone_norm=norm,
            input=InputSpec(size=(64, 64)),
        )
        for norm in norms
    )
    with torch.no_grad():
        for value in old.network.backbone.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    assert take_weights(task, str(save_checkpoint(old, tmp_path / "old.ckpt"))) == []
    state, given = task.network.backbone.state_dict(), old.network.backbone.state_dict()
    assert all(torch.equal(state[name], given[name]) for name in state.keys() & given.keys())


def test_what_cannot_be_a_beginning_is_refused(trained, tmp_path):
    _, source = trained
    with pytest.raises(UsageError, match="a model of classification, and this one is of semantic_segmentation"):
        take_weights(SemanticSegmentationTask("test_resnet", classes=["a", "b"]), source)
    with pytest.raises(UsageError, match=r"only \d+ of \d+ weights fit; give a classification model of the same"):
        take_weights(ClassificationTask("test_vit", classes=["a", "b", "c"]), source)


def test_positions_are_resampled_to_another_size(tmp_path):
    old, task = (
        ClassificationTask("test_vit", classes=["a", "b"], input=InputSpec(size=(side, side))) for side in (64, 96)
    )
    state, given = {key: value.clone() for key, value in task.state_dict().items()}, old.state_dict()
    other = [key for key in state if state[key].shape != given[key].shape and "parameters" not in key]
    assert take_weights(task, str(save_checkpoint(old, tmp_path / "old.ckpt"))) == []
    key = "network.backbone.model.pos_embed"
    assert other == [key]
    taken = task.state_dict()[key]
    assert taken.shape != given[key].shape and not torch.equal(taken, state[key])
    assert float(taken.std()) == pytest.approx(float(given[key].std()), rel=0.3)
    weights = {k.removeprefix("network.backbone.model."): v for k, v in given.items()}
    torch.save(weights, tmp_path / "weights.pt")
    body = Backbone("test_vit", image_size=(96, 96), weights=tmp_path / "weights.pt")
    assert torch.equal(body.model.state_dict()["pos_embed"], taken)
