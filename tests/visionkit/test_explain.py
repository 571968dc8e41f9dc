"""Grad-CAM: the evidence lies where the thing is, at the file's size, for every type of backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.classification.task import ClassificationTask
from visionkit.errors import UsageError
from visionkit.explain import can_explain, explain
from visionkit.geometry import InputSpec
from visionkit.predictor import Predictor


def _predictor(backbone: str, **arguments) -> Predictor:
    torch.manual_seed(0)
    spec = InputSpec(size=(64, 64), resize_mode="stretch")
    return Predictor(ClassificationTask(backbone, classes=("a", "b", "c"), input=spec, **arguments).eval())


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize("size", [(64, 64), (50, 120)])
def test_a_map_of_the_files_size_and_nothing_is_changed(backbone: str, size: tuple[int, int]) -> None:
    predictor = _predictor(backbone)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = predictor(image).to_json()
    for name in (None, *predictor.classes):
        found = explain(predictor, image, name)
        assert found.values.shape == size and found.values.dtype == np.float32
        assert found.values.min() >= 0 and found.values.max() in (0, 1)
        assert found.name == (name or predictor(image).best.name)
    assert predictor(image).to_json() == before
    assert all(parameter.grad is None for parameter in predictor.task.parameters())
    assert not any(module._forward_hooks for module in predictor.task.network.modules())


def test_the_evidence_lies_where_the_thing_is() -> None:
    """A network predicts by the mean of its bright last features: the evidence for that is where they are."""
    predictor = _predictor("test_resnet")
    network = predictor.task.network
    source_image = np.zeros((64, 64, 3), np.uint8)
    source_image[8:24, 40:56] = 255

    class Bright(torch.nn.Module):
        def forward_features(self, image: torch.Tensor) -> torch.Tensor:
            light = torch.nn.functional.avg_pool2d(image.mean(1, keepdim=True), 8)
            return torch.cat([torch.relu(light), torch.relu(-light)], 1)

        def forward_head(self, final: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
            return final.mean((2, 3))

    network.backbone.model = Bright()
    network.head.classifier = torch.nn.Linear(2, 3)
    with torch.no_grad():
        network.head.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        network.head.classifier.bias.zero_()
    values = explain(predictor, source_image, "a").values
    inside = values[8:24, 40:56].mean()
    values[0:32, 32:64] = 0
    assert inside > 0.5 > 0.05 > values.mean()
    dark = explain(predictor, source_image, "b").values
    assert dark[8:24, 40:56].mean() < 0.3 < dark[40:, :32].mean()
    assert not explain(predictor, source_image, "c").values.any(), "nothing speaks for it"


def test_several_heads_have_no_object_to_explain() -> None:
    from tests.contracts.cases import build
    from visionkit.explain import explain_object

    with pytest.raises(UsageError, match="finds no objects with scores"):
        explain_object(Predictor(build("multitask").eval()), np.zeros((64, 64, 3), np.uint8), 0)


def test_what_cannot_be_explained_is_reported() -> None:
    predictor = _predictor("test_resnet")
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UsageError, match="no class of this model"):
        explain(predictor, image, "d")
    from tasks.depth.task import DepthTask

    depth = Predictor(DepthTask("test_resnet", input=InputSpec(size=(64, 64))).eval())
    assert can_explain(predictor.task) and not can_explain(depth.task)
    with pytest.raises(UsageError, match="depth"):
        explain(depth, image)


def test_drawn_over_the_image() -> None:
    from visionkit.drawing.activation import heat
    from visionkit.explain import Explanation

    image = np.full((300, 400, 3), 90, np.uint8)
    values = np.zeros((300, 400), np.float32)
    values[100:200, 100:200] = 1
    drawn = heat(Explanation("a", values), image)
    assert drawn.shape == image.shape and (drawn[:50] == 90).all() and drawn[150, 150].max() > 150
    assert heat(Explanation("a", values[:30, :40]), image[:30, :40]).shape == (30 * 7, 40 * 7, 3)


@pytest.mark.parametrize("method", ["grad-cam++", "score-cam"])
def test_other_methods_find_the_thing_too(method: str) -> None:
    """The same two channels, bright and dark: the evidence for the class of bright is where the image is bright."""
    predictor = _predictor("test_resnet")
    network = predictor.task.network
    source_image = np.full((64, 64, 3), 100, np.uint8)
    source_image[8:24, 40:56] = 255

    class Bright(torch.nn.Module):
        def forward_features(self, image: torch.Tensor) -> torch.Tensor:
            light = torch.nn.functional.avg_pool2d(image.mean(1, keepdim=True), 8)
            return torch.cat([torch.relu(light), torch.relu(-light)], 1)

        def forward_head(self, final: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
            return final.mean((2, 3))

    network.backbone.model = Bright()
    network.head.classifier = torch.nn.Linear(2, 3)
    with torch.no_grad():
        network.head.classifier.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]))
        network.head.classifier.bias.zero_()
    values = explain(predictor, source_image, "a", method).values
    assert values[10:22, 42:54].min() > 0.6 and values[36:, :30].max() < 0.2


def test_grad_cam_plus_plus_by_hand() -> None:
    """Two positions, A = (1, 2) and slopes (1, 3): alpha = g^2 / (2 g^2 + (1 + 2) g^3), weight = sum alpha relu(g)."""
    from visionkit.activation_mapping import gradient_weights

    features, slopes = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 3.0]]])
    expected = 1 / (2 + 3) * 1 + 9 / (18 + 3 * 27) * 3
    assert float(gradient_weights(features, slopes, "grad-cam++")) == pytest.approx(expected)
    assert float(gradient_weights(features, slopes, "grad-cam")) == 2


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_rolled_out(fused: bool) -> None:
    """With queries of zero, attention is even, and so is what reaches the class token."""
    predictor = _predictor("test_vit")
    for module in predictor.task.network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    uneven = explain(predictor, image, "a", "attention-rollout").values
    assert uneven.shape == (64, 64) and uneven.std() > 1e-4
    with torch.no_grad():
        for name, parameter in predictor.task.network.named_parameters():
            if ".qkv." in name:
                parameter[: len(parameter) // 3] = 0
    assert explain(predictor, image, "a", "attention-rollout").values.min() > 0.999
    with pytest.raises(UsageError, match="plain transformer"):
        explain(_predictor("test_resnet"), image, "a", "attention-rollout")
    with pytest.raises(UsageError, match="'score-cam'"):
        explain(predictor, image, "a", "scorecam")


def test_the_evidence_for_one_object_and_one_keypoint() -> None:
    from tasks.detection.task import DetectionTask
    from tasks.pose.task import PoseTask
    from visionkit.explain import explain_object

    torch.manual_seed(0)
    spec = InputSpec(size=(64, 64), resize_mode="stretch")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    detector = DetectionTask(
        "test_resnet", classes=("a", "b"), input=spec, fcos={"neck_channels": 32, "convs": 1}, score_threshold=0.0
    )
    found = [explain_object(Predictor(detector.eval()), image, number) for number in range(6)]
    assert {each.values.shape for each in found} == {(64, 96)} and {each.name[0] for each in found} <= {"a", "b"}
    assert max(each.values.max() for each in found) == 1
    with pytest.raises(UsageError, match="are found"):
        explain_object(Predictor(detector), image, 10_000)
    pose = Predictor(PoseTask("test_resnet", classes=("person",), input=spec, simple_baseline={"width": 16}).eval())
    maps = [explain_object(pose, image, 0, keypoint, "grad-cam++").values for keypoint in (0, 9)]
    assert maps[0].shape == (64, 96) and not np.array_equal(*maps)
    with pytest.raises(UsageError, match="0 to 16"):
        explain_object(pose, image, 0, 17)
    with pytest.raises(UsageError, match="finds no"):
        explain_object(_predictor("test_resnet"), image, 0)
