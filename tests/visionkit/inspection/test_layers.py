"""Layers: parameters, multiply-adds and memory as published and as worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visionkit.backbones.build import build_model
from visionkit.inspection import Report, inspect_network
from visionkit.inspection.layers import NOT_RUN


def _inspected(network: nn.Module, *shape: int) -> Report:
    return inspect_network(network.to("meta"), [torch.zeros(1, *shape, device="meta")])


def _of(name: str, side: int = 224) -> Report:
    with torch.device("meta"):
        return _inspected(build_model(name, {}, None), 3, side, side)


def _convolutions(*layers: tuple[int, int, int], **arguments: int) -> nn.Module:
    """Convolutions (in, out, kernel) without bias that keep the size."""
    return nn.Sequential(*(nn.Conv2d(i, o, k, padding=k // 2, bias=False, **arguments) for i, o, k in layers))


def test_a_layer_has_all_that_is_known_of_it() -> None:
    (layer,) = _inspected(nn.Conv2d(6, 8, (3, 5), (2, 1), (1, 2), (1, 2), 2), 6, 20, 30).layers
    assert (layer.name, layer.kind) == ("(network)", "grouped convolution")
    assert (layer.kernel, layer.stride, layer.padding) == ((3, 5), (2, 1), (1, 2))
    assert (layer.dilation, layer.groups) == ((1, 2), 2)
    assert layer.output == (8, 10, 26) and layer.parameters == 8 * 3 * 15 + 8
    assert layer.multiply_adds == 8 * 10 * 26 * 3 * 15 and layer.activation_bytes == 4 * 8 * 10 * 26


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(4, 8, 1), "pointwise convolution"),
        (nn.Conv2d(4, 4, 3, groups=4), "depthwise convolution"),
        (nn.Conv2d(4, 8, 3, groups=2), "grouped convolution"),
        (nn.Conv2d(4, 8, 3), "convolution"),
        (nn.ConvTranspose2d(4, 8, 2, 2), "transposed convolution"),
        (nn.MaxPool2d(2), "max pooling"),
        (nn.AvgPool2d(2), "average pooling"),
        (nn.AdaptiveAvgPool2d(1), "adaptive pooling"),
        (nn.BatchNorm2d(4), "normalization"),
        (nn.GELU(), "activation"),
        (nn.PixelShuffle(2), "resizing"),
    ],
)
def test_kinds(layer: nn.Module, kind: str) -> None:
    assert [each.kind for each in _inspected(layer, 4, 8, 8).layers] == [kind]


# Input 28x28x192 to 24x24x32 and to 28x28x32.
@pytest.mark.parametrize(
    ("network", "parameters", "millions"),
    [
        (nn.Sequential(nn.Conv2d(192, 32, 5, bias=False)), 153_600, 88.5),
        (nn.Sequential(nn.Conv2d(192, 16, 1, bias=False), nn.Conv2d(16, 32, 5, bias=False)), 15_872, 9.8),
        (nn.Sequential(nn.Conv2d(192, 192, 5, groups=192, bias=False), nn.Conv2d(192, 32, 1, bias=False)), 10_944, 6.3),
        (nn.Sequential(nn.Conv2d(192, 32, 5, groups=16, bias=False)), 9_600, 5.5),
        (_convolutions((192, 32, 5)), 153_600, 120.4),
        (_convolutions((192, 16, 1), (16, 32, 5)), 15_872, 12.4),
    ],
    ids=["5x5", "reduced", "separable", "16 groups", "5x5 padded", "reduced and padded"],
)
def test_ways_to_a_five_by_five(network: nn.Module, parameters: int, millions: float) -> None:
    report = _inspected(network, 192, 28, 28)
    assert report.parameters == parameters and report.multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)


def test_inceptions_reduction_at_14() -> None:
    """GoogLeNet's 4a: 14 x 14 x 480 to 48 channels of 5x5 costs 112.9 M; through a 1x1 to 16 it is 5.3 M."""
    plain = _inspected(_convolutions((480, 48, 5)), 480, 14, 14)
    reduced = _inspected(_convolutions((480, 16, 1), (16, 48, 5)), 480, 14, 14)
    assert plain.multiply_adds == 14 * 14 * 48 * 25 * 480 == 112_896_000
    assert reduced.multiply_adds == 14 * 14 * (16 * 480 + 48 * 25 * 16) == 5_268_480


def test_a_bottleneck_has_an_eighth_of_a_plain_layer() -> None:
    """ResNet's 256 -> 64 -> 64 -> 256 has 69,632 weights, one 3x3 of 256 channels has 589,824."""
    bottleneck = _inspected(_convolutions((256, 64, 1), (64, 64, 3), (64, 256, 1)), 256, 56, 56)
    plain = _inspected(_convolutions((256, 256, 3)), 256, 56, 56)
    assert (bottleneck.parameters, plain.parameters) == (69_632, 589_824)
    assert bottleneck.multiply_adds == 69_632 * 56 * 56 and plain.multiply_adds == 589_824 * 56 * 56


def test_vgg_16_is_the_table_of_cs231n() -> None:
    """15.2 M values, 138 M parameters; the convolutions and linear layers have 15.47 G multiply-adds."""
    import torchvision

    with torch.device("meta"):
        report = _inspected(torchvision.models.vgg16(), 3, 224, 224)
    assert report.parameters == 138_357_544 and report.multiply_adds == 15_470_264_320
    rows = {layer.name: layer for layer in report.layers}
    assert (rows["features.0"].parameters, rows["features.0"].output) == (1_792, (64, 224, 224))
    assert rows["classifier.0"].parameters == 102_764_544 and rows["classifier.0"].multiply_adds == 102_760_448
    sides = [(224, 64, 2), (112, 128, 2), (56, 256, 3), (28, 512, 3), (14, 512, 3)]
    maps = sum(side**2 * channels * number for side, channels, number in sides)
    pools = sum((side // 2) ** 2 * channels for side, channels, _ in sides)
    table = 224 * 224 * 3 + maps + pools + 4096 + 4096 + 1000
    assert table == 15_237_608  # ReLU works in place, and so does dropout
    assert report.activation_bytes == 4 * (table + 7 * 7 * 512), "the adaptive pooling makes a copy"


def test_alexnet() -> None:
    """Torchvision's: 61,100,840 parameters, 714 M multiply-adds; that of 2012: 60,965,224 and 724 M, in two groups."""
    one, two = _of("alexnet"), _of("alexnet_2012", 227)
    assert one.parameters == 61_100_840 and one.multiply_adds == 714_188_480
    assert two.parameters == 60_965_224 and two.multiply_adds / 1e6 == pytest.approx(724, abs=0.6)
    rows = [(layer.output, layer.parameters) for layer in two.layers if layer.kind.endswith("convolution")]
    assert rows[0] == ((96, 55, 55), 96 * 3 * 121 + 96) and rows[1] == ((256, 27, 27), 256 * 48 * 25 + 256)
    dense = [layer.parameters for layer in two.layers if layer.kind == "linear" or layer.output[:1] == (4096,)]
    assert max(dense) == 9216 * 4096 + 4096


def test_mobilenets_table() -> None:
    """Table 2 of the paper, weights alone: the 1.19 % of its 3x3 layer is a misprint of 1.91 %."""
    report = _of("mobilenetv1_100")
    assert report.multiply_adds == 568_740_352 and report.parameters == 4_231_976
    first = next(layer for layer in report.layers if layer.kind == "convolution")
    operations = {row["kind"]: row["multiply-adds"] for row in report.kinds()}
    fractions = {kind: round(100 * count / report.multiply_adds, 2) for kind, count in operations.items() if count}
    assert fractions == {
        "pointwise convolution": 94.86, "depthwise convolution": 3.06, "convolution": 1.91, "linear": 0.18,
    }  # fmt: skip
    weights = {row["kind"]: row["parameters"] for row in report.kinds()}
    weights["linear"] -= 1000  # the biases
    total = report.parameters - weights.pop("normalization") - 1000
    fractions = {kind: round(100 * count / total, 2) for kind, count in weights.items() if count}
    assert fractions == {
        "pointwise convolution": 74.59, "depthwise convolution": 1.06, "convolution": 0.02, "linear": 24.33,
    }  # fmt: skip
    assert first.multiply_adds == 112 * 112 * 32 * 27


def test_attention_is_counted() -> None:
    """ViT-B/16: 17.56 G, of which 12 x 2 x 197 x 197 x 768 are those of the attention itself."""
    report = _of("vit_base_patch16_224")
    linear = 12 * 197 * 768 * 768 * (3 + 1 + 4 + 4)
    attention = 12 * 2 * 197 * 197 * 768
    assert report.multiply_adds == 196 * 768 * 768 + linear + attention + 768 * 1000
    rows = {layer.name: layer for layer in report.layers}
    assert rows["blocks.0.attn"].multiply_adds == attention // 12 and rows["blocks.0.attn"].parameters == 0
    assert rows["(network)"].parameters == 768 * (197 + 1), "the class token and the positions"


def test_large_transformers_are_inspected_without_memory() -> None:
    report = _of("vit_large_patch16_224")
    assert report.parameters == 304_326_632 and report.multiply_adds / 1e9 == pytest.approx(61.55, abs=0.01)


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(8, 8), nn.Linear(8, 3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.twice(self.act(self.twice(x)))) @ torch.ones(8, 2, device=x.device)
        return out


def test_shared_unused_and_functional_parts() -> None:
    network = _Odd().train()
    report = _inspected(network, 5, 8)
    rows = {layer.name: layer for layer in report.layers}
    assert network.training and not any(module._forward_hooks for module in network.modules())
    assert rows["twice"].parameters == 72 and rows["twice"].multiply_adds == 2 * 5 * 64
    assert rows["never"].kind == NOT_RUN and rows["never"].parameters == 27
    assert rows["(network)"].multiply_adds == 5 * 8 * 2
    assert report.parameters == sum(each.numel() for each in network.parameters())
    assert rows["act"].activation_bytes == 0 and rows["twice"].activation_bytes == 2 * 4 * 40
