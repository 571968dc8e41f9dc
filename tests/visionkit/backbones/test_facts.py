from __future__ import annotations

import pytest

from visionkit.backbones import backbone_facts, backbone_names
from visionkit.errors import UsageError


def test_facts_are_those_of_the_weights() -> None:
    resnet, vit = backbone_facts("resnet18"), backbone_facts("vit_small_patch16_224")
    assert resnet.name == "resnet18.a1_in1k"
    assert resnet.mean == (0.485, 0.456, 0.406)
    assert vit.mean == (0.5, 0.5, 0.5)
    assert (resnet.input_size, resnet.fixed_input_size) == ((288, 288), False)
    assert (vit.input_size, vit.fixed_input_size) == ((224, 224), True)
    assert backbone_facts("resnet50.tv_in1k").crop_fraction == 0.875
    assert backbone_facts("resnet50.tv_in1k").interpolation == "bilinear"
    assert (backbone_facts("lenet5").channels, backbone_facts("resnet9").input_size) == (1, (32, 32))


def test_class_names_are_imagenets_and_unique() -> None:
    names = backbone_facts("resnet18").class_names()
    assert names is not None
    assert (len(names), len(set(names))) == (1000, 1000)
    assert (names[0], names[281]) == ("tench", "tabby")
    larger = backbone_facts("convnext_tiny.fb_in22k").class_names()
    assert larger is not None
    assert len(larger) == len(set(larger)) == 21841
    assert backbone_facts("resnet9").class_names() is None


def test_names_are_found_by_pattern() -> None:
    assert backbone_names("lenet*") == ["lenet5"]
    assert "mobilefacenet" in backbone_names("facenet")
    assert "resnet50.a1_in1k" in backbone_names("resnet50", tags=True)
    assert len(backbone_names()) > 1000


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*'lenet5'"):
        backbone_facts("lenett5")
