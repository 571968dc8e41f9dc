"""The first layer gives the values of timm's own transform, and reads its statistics back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from visionkit.nn.normalize import Normalize

STATISTICS = [
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.1, 0.7, 0.3), (0.9, 0.2, 0.4)),
]


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_the_values_are_those_of_timms_transform(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    transform = create_transform((3, 16, 16), is_training=False, mean=mean, std=std, crop_pct=1.0)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    layer = Normalize(mean, std)
    for given in (image, image.float()):
        found = layer(given)
        assert found.dtype == torch.float32
        assert torch.allclose(found[0], transform(Image.fromarray(pixels)), atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_the_statistics_are_read_back_and_travel_with_the_weights(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    layer = Normalize(mean, std)
    assert layer.mean == pytest.approx(mean, abs=1e-6) and layer.std == pytest.approx(std, abs=1e-6)
    other = Normalize((0.0,) * 3, (1.0,) * 3)
    assert other.mean == pytest.approx((0.0,) * 3) and other.std == pytest.approx((1.0,) * 3)
    other.load_state_dict(layer.state_dict())
    assert other.mean == layer.mean and other.std == layer.std


def test_the_values_follow_the_precision_of_the_layer() -> None:
    layer = Normalize(*STATISTICS[0]).to(torch.bfloat16)
    assert layer(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.bfloat16
