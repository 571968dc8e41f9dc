"""Every family of timm classifies, forward and backward; one of every type in `make test`, all in `make slow`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.models import list_modules

from tasks.classification.network import ClassificationHead, ClassificationNetwork
from tests.visionkit.backbones.families import CLASSIC, FAMILIES, KINDS, SLOW
from visionkit.backbones import Backbone


def test_every_family_of_timm_is_in_the_list() -> None:
    assert set(list_modules()) == set(FAMILIES) | set(CLASSIC)


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in FAMILIES]
)
def test_family_classifies(family: str) -> None:
    name, size = FAMILIES[family]
    torch.manual_seed(0)
    backbone = Backbone(name, num_classes=5, image_size=(size, size)).eval()
    for parameter in backbone.parameters():  # logits that begin at zero would prove nothing
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    image = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = backbone.model(image)
    classifier = backbone.take_classifier()
    assert classifier is not None
    network = ClassificationNetwork(backbone, ClassificationHead(classifier)).eval()
    with torch.no_grad():
        logits = network(image).logits
    assert logits.shape == (2, 5)
    assert expected.std() > 0
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)

    logits = network.train()(image).logits
    F.cross_entropy(logits, torch.tensor([1, 3])).backward()
    waiting = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert waiting == []
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in SLOW])
def test_family_gives_its_pyramid(family: str) -> None:
    """All strides it declares (a plain network: those of a feature pyramid) at the channels it declares."""
    name, size = FAMILIES[family]
    reductions = _declared(name, size)
    strides = sorted(set(reductions)) if len(set(reductions)) > 1 else [s * reductions[0] // 4 for s in (2, 4, 8)]
    for chosen in (strides, strides[:1]):
        backbone = Backbone(name, strides=chosen, image_size=(size, size), use_final=False)
        final, pyramid = backbone(torch.randn(2, 3, size, size))
        assert final is None
        assert list(pyramid) == chosen
        assert {stride: map_.shape[1] for stride, map_ in pyramid.items()} == backbone.channels
        torch.stack([map_.square().mean() for map_ in pyramid.values()]).sum().backward()
        assert [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []


def _declared(name: str, size: int) -> list[int]:
    info = Backbone(name, image_size=(size, size)).model.feature_info
    return [entry["reduction"] for entry in getattr(info, "info", info)]
