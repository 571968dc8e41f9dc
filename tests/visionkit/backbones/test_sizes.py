"""Input sizes that a network cannot take are refused when it is built, with the nearest that work."""

from __future__ import annotations

import re

import pytest
import torch

from tasks.classification import ClassificationTask
from tasks.pose import PoseTask
from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.backbones import Backbone
from visionkit.backbones.sizes import Trial
from visionkit.construction import WithoutInit
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec


def runs(name: str, size: tuple[int, int]) -> bool:
    """Whether the network itself, with weights, comes to the end of a pass."""
    trial = Trial(name, {})
    fixed, trial._fixed = trial._fixed, False
    try:
        with torch.no_grad():
            body = Backbone(name, image_size=size if fixed else None).eval()
            body.pool(body(torch.zeros(1, len(body.mean), *size)).final)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "lenet5"])
@pytest.mark.parametrize("size", [(64, 64), (100, 130), (96, 128), (33, 7)])
def test_the_pass_without_weights_states_what_the_network_does(name, size):
    assert Trial(name, {}).takes(size) == runs(name, size)


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_vit", (100, 130)), ("test_vit", (250, 250)), ("levit_128s", (100, 130)), ("dla34", (250, 250))],
)
def test_a_size_that_does_not_divide_is_refused_with_the_nearest(name, size):
    with pytest.raises(
        UsageError, match=rf"'{name}': cannot take images of {size[0]}x{size[1]}; the nearest"
    ) as caught:
        Backbone(name, image_size=size)
    near = re.findall(r"\[(\d+),(\d+)\]", str(caught.value))
    assert near and "\n" not in str(caught.value)
    for height, width in near:
        assert Trial(name, {}).takes((int(height), int(width)))
        assert abs(int(height) - size[0]) + abs(int(width) - size[1]) <= 64


def test_a_network_for_squares_is_warned_of_squares():
    with pytest.raises(UsageError, match=r"the nearest sizes that work are \[100,100\]"):
        Backbone("convit_tiny", image_size=(100, 130))


@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_arguments_do_not_change_the_verdict(in_chans):
    Backbone("test_vit", image_size=(64, 96), in_chans=in_chans, strides=(8, 16), use_final=False)
    with pytest.raises(UsageError, match="cannot take images of 100x96"):
        Backbone("test_vit", image_size=(100, 96), in_chans=in_chans, strides=(8, 16), use_final=False)


def test_what_is_wrong_beside_the_size_keeps_its_own_message():
    with pytest.raises(UsageError, match="has no map of stride 64"):
        Backbone("test_resnet", image_size=(100, 130), strides=(64,))


def test_every_task_refuses_when_it_is_built():
    spec = InputSpec(size=(100, 130), resize_mode="stretch")
    with pytest.raises(UsageError, match="cannot take images of 100x130"):
        ClassificationTask("test_vit", classes=["a", "b"], input=spec)
    with pytest.raises(UsageError, match="cannot take images of 100x130"):
        PoseTask("test_vit", skeleton="coco17", input=spec, simple_baseline={"stride": 16})


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_label_maps_take_any_size_because_they_are_continued(name):
    spec = InputSpec(size=(50, 70), resize_mode="stretch")
    task = SemanticSegmentationTask(name, architecture="fpn", classes=["a", "b"], input=spec).eval()
    with torch.no_grad():
        assert len(task(torch.zeros(1, 3, 50, 70, dtype=torch.uint8)).logits) == 1


def test_a_trained_network_is_built_without_the_trial(monkeypatch):
    monkeypatch.setattr("visionkit.backbones.backbone.check_image_size", None)
    with WithoutInit():
        Backbone("test_resnet", image_size=(64, 64))
    with pytest.raises(TypeError):
        Backbone("test_resnet", image_size=(64, 64))
