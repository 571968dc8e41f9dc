"""Receptive fields: the arithmetic of layers, published tables, and gradients of real networks that stay inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from visionkit.backbones.build import build_model
from visionkit.inspection import ReceptiveField, Window, inspect_network
from visionkit.inspection.effective_field import effective_field


def _fields(network: nn.Module, side: int = 64, channels: int = 3) -> dict[str, ReceptiveField]:
    with torch.device("meta"):
        report = inspect_network(network.to("meta"), [torch.zeros(1, channels, side, side)])
    return {layer.name: layer.field for layer in report.layers if layer.field is not None}


def _sizes(network: nn.Module, side: int = 64) -> list[float]:
    return [field.size[0] for name, field in _fields(network, side).items() if name != "(network)"]


def test_eight_convolutions_of_the_lecture() -> None:
    """Eight 3x3 layers of strides 1, 2, 1, 1, 2, 1, 1, 2 on 256 x 256: jumps 1, 1, 2, 2, 2, 4, 4, 4 before each."""
    strides = (1, 2, 1, 1, 2, 1, 1, 2)
    window, sizes = Window(), []
    for stride in strides:
        window = window.convolved(3, stride, padding=1)
        sizes.append(window.size)
    assert sizes == [3, 5, 9, 13, 17, 25, 33, 41]
    assert window.jump == 8 and window.center == 0.5
    convolutions = [nn.Conv2d(3 if not k else 4, 4, 3, stride, 1) for k, stride in enumerate(strides)]
    assert _sizes(nn.Sequential(*convolutions), 256) == sizes


def test_convolutions_and_poolings_with_the_same_numbers() -> None:
    """3x3 convolutions and 3x3 poolings of stride 2 in place of the strided convolutions."""
    pooled = (False, True, False, False, True, False, False, True)
    layers = [nn.MaxPool2d(3, 2, 1) if pools else nn.Conv2d(3, 3, 3, padding=1) for pools in pooled]
    assert _sizes(nn.Sequential(*layers), 256) == [3, 5, 9, 13, 17, 25, 33, 41]


@pytest.mark.parametrize(
    ("layer", "size", "jump", "center"),
    [
        (nn.Conv2d(3, 4, 7, 2, 3), 7, 2, 0.5),
        (nn.Conv2d(3, 4, 3, dilation=4), 9, 1, 4.5),
        (nn.Conv2d(3, 4, 5, padding="same"), 5, 1, 0.5),
        (nn.AvgPool2d(2), 2, 2, 1),
        (nn.AdaptiveAvgPool2d(16), 4, 4, 2),
        (nn.Upsample(scale_factor=2), 1.5, 0.5, 0.25),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 2.5, 0.5, 0.25),
        (nn.PixelUnshuffle(4), 4, 4, 2),
        (nn.ConvTranspose2d(3, 4, 2, 2), 1.5, 0.5, 0.25),
        (nn.Sequential(nn.Upsample(scale_factor=4), nn.AvgPool2d(4)), 2.5, 1, 0.5),
    ],
)
def test_single_layers(layer: nn.Module, size: float, jump: float, center: float) -> None:
    field = list(_fields(layer).values())[-1]
    assert (field.size[0], field.jump[0], field.center[0]) == (size, jump, pytest.approx(center, abs=0.26))
    assert not field.whole


def test_sides_are_kept_apart() -> None:
    field = _fields(nn.Conv2d(3, 4, (1, 7), (1, 2), (0, 3)))["(network)"]
    assert field.size == (1, 7) and field.jump == (1, 2)


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 7, padding=3), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        narrow, wide = self.narrow(x), self.wide(x)
        joined = torch.cat([narrow, wide], 1).chunk(2, 1)[0].permute(0, 2, 3, 1)
        normed = functional.layer_norm(joined, (4,)).permute(0, 3, 1, 2)
        out: torch.Tensor = normed + functional.conv2d(narrow, torch.ones(4, 4, 1, 1))
        return out


def test_where_branches_meet_the_largest_counts() -> None:
    fields = _fields(_Branches())
    assert fields["narrow"].size == (3, 3) and fields["wide"].size == (7, 7)
    with torch.device("meta"):
        report = inspect_network(_Branches(), [torch.zeros(1, 3, 32, 32)])
    assert [layer.name for layer in report.layers] == ["narrow", "wide", "(network)"]
    field = report.layers[-1].field
    assert field is not None and field.size == (7, 7) and not field.whole


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x * x.mean((2, 3), keepdim=True),
        lambda x: functional.group_norm(x, 2),
        lambda x: torch.roll(x, 3, 2),
        lambda x: functional.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.reshape(x.shape),
        lambda x: x.flatten(2).softmax(-1).reshape(x.shape),
        lambda x: functional.layer_norm(x, x.shape[1:]),
        lambda x: torch.fft.fft2(x).real,
    ],
)
def test_what_mixes_positions_sees_the_whole_image(mix) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.after(mix(self.before(x)))
            return out

    fields = _fields(Mixed())
    assert not fields["before"].whole and fields["after"].whole
    assert fields["after"].box((4, 4), (64, 64)) == ((0, 63), (0, 63))


# Araujo et al. (Distill 2019) for AlexNet v2, VGG-16, MobileNet v1 and DenseNet-121; torchvision's ResNet-50 has its
# strides in the 3x3 layers, where their slim version (483) has them at the end of a block.
PUBLISHED = {"alexnet": 195, "mobilenetv1_100": 315, "densenet121": 2071, "resnet18": 435, "resnet50": 427}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_fields(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name, {}, None)
        report = inspect_network(network, [torch.zeros(1, 3, 224, 224)])
    field = report.last_field()
    assert field is not None and field.size == (PUBLISHED[name],) * 2 and field.jump == (32, 32)


def test_vgg_sees_212_pixels_before_its_first_linear_layer() -> None:
    with torch.device("meta"):
        report = inspect_network(build_model("vgg16", {}, None), [torch.zeros(1, 3, 224, 224)])
    fields = {layer.name: layer.field for layer in report.layers}
    last, first = fields["features.30"], fields["pre_logits.fc1"]
    assert last is not None and last.size == (212, 212) and first is not None and first.size == (404, 404)


FAST = ("test_resnet", "test_convnext", "resnet9_small", "test_byobnet")
CNNS = (
    "resnet18", "resnetv2_18", "resnext26ts", "vgg11", "alexnet", "googlenet", "squeezenet1_1", "densenet121",
    "dla46x_c", "shufflenet_v2_x0_5", "mobilenetv1_100", "mobilenetv2_050", "convnext_atto", "hrnet_w18_small",
    "inception_v3", "regnetx_002", "darknet17", "repvgg_a0", "res2next50", "xception41p", "fasternet_t0",
    "starnet_s050", "selecsls42",
)  # fmt: skip


def _contains(name: str, side: int = 224) -> None:
    torch.manual_seed(0)
    network = build_model(name, {}, None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # some start at 0, where no gradient passes
    with torch.device("meta"):
        report = inspect_network(build_model(name, {}, None), [torch.zeros(1, 3, side, side)])
    fields = {layer.name: layer.field for layer in report.layers if layer.field and len(layer.field.axes) == 2}
    local = [layer for layer, field in fields.items() if not field.whole and layer != "(network)"]
    assert local, "no field of this network can be refuted"
    for layer in (local[len(local) // 3], local[-1]):
        found = effective_field(network, [(1, 3, side, side)], layer, fields[layer].axes, samples=1)
        for (first, last), (begin, end) in zip(found.box, fields[layer].box(found.unit, (side, side)), strict=True):
            assert begin <= first <= last <= end, (layer, found.box, fields[layer])


@pytest.mark.parametrize("name", FAST)
def test_gradients_stay_inside(name: str) -> None:
    _contains(name, 96)


@pytest.mark.slow
@pytest.mark.parametrize("name", CNNS)
def test_gradients_of_many_networks_stay_inside(name: str) -> None:
    _contains(name)


def test_a_field_is_as_large_as_the_gradients_of_positive_weights() -> None:
    """With all weights positive nothing cancels, so the bound is reached: strides, dilation, enlarging."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, 2, 2),
        nn.AvgPool2d(3, 2, 1),
        nn.Conv2d(4, 4, 3, dilation=2, padding=2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.ConvTranspose2d(4, 4, 4, 2, 1),
    ).eval()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    report = inspect_network(network, [torch.zeros(1, 3, 128, 128)])
    field = report.layers[-1].field
    assert field is not None
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    out, reached = network(image), [0.0, 0.0]
    for unit in range(56, 64):  # every phase
        (slope,) = torch.autograd.grad(out[0, :, unit, 64].sum(), image, retain_graph=True)
        rows = slope[0].abs().sum((0, 2)).nonzero().flatten()
        begin, end = field.windows[0].interval(unit)
        assert begin <= int(rows[0]) and int(rows[-1]) <= end
        middle = field.windows[0].center + unit * field.jump[0]
        reached = [max(reached[0], middle - int(rows[0])), max(reached[1], int(rows[-1]) + 1 - middle)]
    assert field.size[0] - sum(reached) < 2, (field.size, reached)
