"""The classic networks: sizes as published, and timm's contract for each of them."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters, list_models
from torch import Tensor, nn

from tests.visionkit.backbones.families import CLASSIC
from visionkit.backbones import Backbone, backbone_facts

NAMES = [name for module in CLASSIC for name in list_models(module=module)]

PARAMETERS = {
    "lenet5": 60_850,  # 60,000 in the paper, whose output units are not learned, and 850 of the linear classifier
    "alexnet": 61_100_840,
    "alexnet_2012": 60_965_224,
    "zfnet": 62_357_608,
    "googlenet": 6_624_904,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
    "mobilefacenet": 1_003_136,
    "resnet9": 6_573_130,
    "resnet9_small": 2_001_722,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet18_cifar": 11_173_962,
}

# Millions, as the papers and torchvision publish them; ShuffleNet v1 from tables 2 and 5.
MULT_ADDS = {
    "alexnet": 714,
    "googlenet": 1498,
    "squeezenet1_0": 819,
    "squeezenet1_1": 349,
    "shufflenet_v1_x1_0_g1": 143,
    "shufflenet_v1_x1_0_g2": 140,
    "shufflenet_v1_x1_0_g3": 137,
    "shufflenet_v1_x1_0_g4": 133,
    "shufflenet_v1_x1_0_g8": 137,
    "shufflenet_v1_x0_5_g3": 38,
    "shufflenet_v1_x1_5_g3": 292,
    "shufflenet_v1_x2_0_g3": 524,
    "shufflenet_v2_x0_5": 40,
    "shufflenet_v2_x1_0": 145,
    "shufflenet_v2_x1_5": 296,
    "shufflenet_v2_x2_0": 583,
    "mobilefacenet": 221.0,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_published(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_lenet_has_the_sixty_thousand_parameters_of_the_paper() -> None:
    model = timm.create_model("lenet5", num_classes=0)
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert {name: count for name, count in counts.items() if count} == {
        "c1": 156,
        "s2": 12,
        "c3": 1516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
    }


@pytest.mark.parametrize("name", MULT_ADDS)
def test_multiply_adds_are_those_published(name: str) -> None:
    total = 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += output[0].numel() * next(module.parameters())[0].numel()

    with torch.device("meta"):
        model = timm.create_model(name).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        model(torch.zeros(1, 3, *backbone_facts(name).input_size))
    assert total / 1e6 == pytest.approx(MULT_ADDS[name], rel=0.012)


def test_alexnet_has_the_maps_of_the_paper() -> None:
    with torch.device("meta"):
        model = timm.create_model("alexnet_2012").eval()
        shapes = []
        x = torch.zeros(1, 3, 227, 227)
        for layer in model.features:
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                shapes.append((x.shape[-1], x.shape[1]))
    assert shapes == [(55, 96), (27, 96), (27, 256), (13, 256), (13, 384), (13, 384), (13, 256), (6, 256)]


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0", "squeezenet1_1", "shufflenet_v2_x0_5", "googlenet"])
def test_torchvisions_weights_load_without_renaming_and_give_the_same(name: str) -> None:
    import torchvision

    arguments = {"init_weights": False} if name == "googlenet" else {}
    theirs = getattr(torchvision.models, name)(**arguments).eval()
    ours = timm.create_model(name).eval()
    state = theirs.state_dict()
    if name == "googlenet":  # the auxiliary classifiers of the file are left out, as on the road of public weights
        state = ours.filter_weights(state, ours)
    ours.load_state_dict(state)
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str) -> None:
    facts = backbone_facts(name)
    small = facts.input_size if facts.fixed_input_size or facts.input_size == (32, 32) else (96, 96)
    image = torch.randn(2, facts.channels, *small)
    with torch.no_grad():
        model = timm.create_model(name, num_classes=5).eval()
        logits = model(image)
        assert logits.shape == (2, 5)
        features = model.forward_features(image)
        assert features.shape[1] == model.num_features
        assert torch.equal(model.forward_head(features), logits)
        vector = model.forward_head(features, pre_logits=True)
        assert vector.shape == (2, model.head_hidden_size)
        taps = model.feature_info
        final, maps = model.forward_intermediates(image)
        assert torch.equal(final, features)
        assert [map_.shape[1] for map_ in maps] == [tap["num_chs"] for tap in taps]
        for tap, map_ in zip(taps, maps, strict=True):
            # Convolutions without padding lose a border; what is declared is the distance between two places.
            assert small[0] / tap["reduction"] - 6 <= map_.shape[-1] <= small[0] / tap["reduction"] + 1
            assert model.get_submodule(tap["module"]) is not None
        (early,) = model.forward_intermediates(image, indices=[0], stop_early=True, intermediates_only=True)
        assert torch.equal(early, maps[0])
        model.prune_intermediate_layers([0])
        (cut,) = model.forward_intermediates(image, indices=[0], intermediates_only=True)
        assert torch.equal(cut, maps[0])

        model = timm.create_model(name, num_classes=0).eval()
        assert model(image).shape == (2, model.head_hidden_size)
        assert isinstance(model.get_classifier(), nn.Identity)
        model.reset_classifier(3)
        assert model(image).shape == (2, 3)
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert set(layers) == {parameter for parameter, _ in model.named_parameters()}
    first = next(parameter for parameter, _ in model.named_parameters())
    last = [parameter for parameter, _ in model.named_parameters()][-1]
    assert layers[first] == 0 < layers[last] == max(layers.values())


@pytest.mark.parametrize("name", ["resnet9_small", "mobilefacenet", "shufflenet_v1_x0_5_g3", "squeezenet1_1"])
def test_recomputed_activations_give_the_same_gradient(name: str) -> None:
    gradients = []
    for enable in (False, True):
        torch.manual_seed(0)
        backbone = Backbone(name).eval()
        backbone.set_grad_checkpointing(enable)
        backbone.pool(backbone(torch.ones(1, 3, 112, 112)).final).sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_resnet18_for_small_images_declares_its_strides() -> None:
    backbone = Backbone("resnet18_cifar", strides=(1, 2, 4, 8)).eval()
    pyramid = backbone(torch.randn(1, 3, 32, 32)).pyramid
    assert [map_.shape[-1] for map_ in pyramid.values()] == [32, 16, 8, 4]
