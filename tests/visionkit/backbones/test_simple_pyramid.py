from __future__ import annotations

import torch
from torch import nn

from visionkit.backbones import Backbone
from visionkit.backbones.simple_pyramid import SimplePyramid


def test_scales_by_powers_of_two() -> None:
    pyramid = SimplePyramid(64, 16, (4, 8, 16, 32))
    x = torch.randn(1, 64, 6, 5)
    maps = pyramid(x, (96, 80))
    assert {s: tuple(m.shape[1:]) for s, m in maps.items()} == {
        4: (16, 24, 20),
        8: (32, 12, 10),
        16: (64, 6, 5),
        32: (64, 3, 3),
    }
    assert torch.equal(maps[16], x)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in pyramid.modules()) == 3


def test_a_patch_that_is_no_power_of_two_still_gives_the_promised_stride() -> None:
    pyramid = SimplePyramid(32, 14, (4, 8, 16, 32))
    maps = pyramid(torch.randn(1, 32, 16, 16), (224, 224))
    assert [tuple(m.shape[-2:]) for m in maps.values()] == [(56, 56), (28, 28), (14, 14), (7, 7)]


def test_it_is_put_on_because_all_declared_strides_are_equal() -> None:
    plain, staged = (Backbone(name, strides=(8, 16), image_size=(64, 64)) for name in ("test_vit", "test_convnext"))
    assert plain.simple_pyramid is not None
    assert staged.simple_pyramid is None
    assert Backbone("test_vit").simple_pyramid is None
