from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from visionkit.backbones import Backbone
from visionkit.errors import CheckpointError, UsageError


def _without_gradient(backbone: Backbone) -> list[str]:
    return [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("test_resnet", 64, {2: 32, 4: 16, 8: 8, 16: 4, 32: 2}),
        ("test_convnext", 64, {4: 16, 8: 8, 16: 4, 32: 2}),
        ("swin_tiny_patch4_window7_224", 64, {4: 16, 8: 8, 16: 4, 32: 2}),
        ("test_vit", 64, {4: 16, 8: 8, 16: 4, 32: 2}),
        ("vgg11", 64, {1: 64, 2: 32, 4: 16, 8: 8, 16: 4, 32: 2}),
        # Its convolutions are not padded, so the maps lose pixels; they are given as they are.
        ("inception_v3", 96, {2: 45, 4: 20, 8: 9, 16: 4, 32: 1}),
    ],
)
def test_the_pyramid_has_the_strides_that_were_asked_for(name: str, size: int, sides: dict[int, int]) -> None:
    backbone = Backbone(name, strides=sides, image_size=(size, size), use_final=False).eval()
    final, pyramid = backbone(torch.randn(1, 3, size, size))
    assert final is None
    assert {stride: map_.shape[-1] for stride, map_ in pyramid.items()} == sides
    assert {stride: map_.shape[1] for stride, map_ in pyramid.items()} == backbone.channels


def test_a_pyramid_comes_finest_first_and_once() -> None:
    backbone = Backbone("test_resnet", strides=(32, 8, 8, 4))
    assert list(backbone(torch.randn(1, 3, 64, 64)).pyramid) == [4, 8, 32] == list(backbone.channels)


def test_sizes_that_do_not_divide() -> None:
    backbone = Backbone("test_resnet", strides=(8, 16)).eval()
    pyramid = backbone(torch.randn(1, 3, 75, 101)).pyramid
    assert [tuple(map_.shape[-2:]) for map_ in pyramid.values()] == [(10, 13), (5, 7)]


def test_final_and_pyramid_are_one_pass() -> None:
    backbone = Backbone("test_convnext", strides=(8, 32)).eval()
    passes: list[Tensor] = []
    backbone.model.stem.register_forward_hook(lambda module, inputs, output: passes.append(output))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = backbone(image)
        assert len(passes) == 1
        assert torch.equal(features.final, backbone.model.forward_features(image))
    assert backbone.pool(features.final).shape == (2, backbone.num_features)


def test_without_strides_the_network_is_timms_own() -> None:
    import timm

    backbone = Backbone("test_resnet")
    own = {name: p.shape for name, p in timm.create_model("test_resnet", num_classes=0).named_parameters()}
    assert {name: p.shape for name, p in backbone.named_parameters()} == {f"model.{n}": s for n, s in own.items()}
    assert backbone(torch.randn(1, 3, 64, 64)).pyramid == {}


def test_where_strides_repeat_the_deepest_map_is_taken() -> None:
    backbone = Backbone("resnet18", strides=(4, 8), output_stride=8, use_final=True).eval()
    with torch.no_grad():
        final, pyramid = backbone(torch.randn(1, 3, 64, 64))
    assert pyramid[8].shape == (1, 512, 8, 8)
    assert torch.equal(pyramid[8], final)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "lenet5", "googlenet"])
def test_channels(name: str, channels: int) -> None:
    backbone = Backbone(name, in_chans=channels, image_size=(64, 64)).eval()
    assert len(backbone.mean) == len(backbone.std) == channels
    final, _ = backbone(torch.randn(1, channels, 64, 64))
    assert backbone.pool(final).shape == (1, backbone.num_features)


def test_statistics_of_other_channels_are_averages() -> None:
    three, one, four = (Backbone("test_resnet", in_chans=n).mean for n in (3, 1, 4))
    assert one == pytest.approx((sum(three) / 3,))
    assert four == pytest.approx((*three, sum(three) / 3))


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("test_resnet", (4, 8)),
        ("test_resnet", (8, 32)),
        ("test_convnext", (4,)),
        ("test_vit", (4, 8, 16, 32)),
        ("test_efficientnet", (8, 16)),
        ("hrnet_w18_small", (2, 4)),
        ("lenet5", (2,)),
        ("alexnet", (4, 16)),
        ("googlenet", (8, 16)),
        ("squeezenet1_1", (2, 8)),
        ("shufflenet_v2_x0_5", (4, 16)),
        ("mobilefacenet", (4, 8)),
        ("resnet9", (2, 4)),
    ],
)
def test_no_parameter_waits_for_a_gradient_pyramid_alone(name: str, strides: tuple[int, ...]) -> None:
    backbone = Backbone(name, strides=strides, use_final=False, image_size=(64, 64))
    _, pyramid = backbone(torch.randn(2, 3, 64, 64))
    torch.stack([map_.square().mean() for map_ in pyramid.values()]).sum().backward()
    assert _without_gradient(backbone) == []
    assert any(p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "squeezenet1_1"])
@pytest.mark.parametrize("strides", [(), (4, 16)])
def test_no_parameter_waits_for_a_gradient_with_final(name: str, strides: tuple[int, ...]) -> None:
    backbone = Backbone(name, strides=strides, image_size=(64, 64))
    final, pyramid = backbone(torch.randn(2, 3, 64, 64))
    loss = backbone.pool(final).square().mean()
    torch.stack([loss, *(map_.square().mean() for map_ in pyramid.values())]).sum().backward()
    assert _without_gradient(backbone) == []


def test_pruning_leaves_nothing_behind_the_deepest_map() -> None:
    whole, cut = Backbone("resnet18"), Backbone("resnet18", strides=(4, 8), use_final=False)
    weight = sum(p.numel() for p in cut.parameters())
    assert weight == sum(
        p.numel() for n, p in whole.named_parameters() if not n.startswith(("model.layer3", "model.layer4"))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51x"}, "resnet50"),
        ({"name": "resnet50.a1_in22k"}, "a1_in1k"),
        ({"name": "local-dir:resnet18"}, "neither timm nor the classic networks"),
        ({"name": "test_resnet", "strides": (8, 64)}, "no map of stride 64; it has strides 2, 4, 8, 16, 32"),
        (
            {"name": "swin_tiny_patch4_window7_224", "strides": (2, 4)},
            "no map of stride 2; it has strides 4, 8, 16, 32",
        ),
        ({"name": "vgg11", "output_stride": 8}, "refuses output_stride 8; it takes 32"),
        ({"name": "test_resnet", "output_stride": 4}, "it takes 8, 16, 32"),
        ({"name": "test_vit", "output_stride": 8}, "it takes none"),
        ({"name": "alexnet", "drop_path_rate": 0.1}, "does not take drop_path_rate"),
        ({"name": "mobilefacenet", "image_size": (100, 100)}, "cannot take images of 100x100; the nearest"),
        ({"name": "test_resnet", "in_chans": 0}, "in_chans 0"),
        ({"name": "test_resnet", "use_final": False}, "strides: at least one"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Backbone(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 2


def test_pooling_without_final_is_refused() -> None:
    backbone = Backbone("test_resnet", strides=(8,), use_final=False)
    with pytest.raises(UsageError, match="use_final"):
        backbone.pool(backbone(torch.randn(1, 3, 64, 64)).final)


def test_a_fixed_size_network_is_built_for_the_given_size() -> None:
    backbone = Backbone("test_vit", image_size=(96, 64)).eval()
    assert backbone.default_input_size == (96, 64)
    assert backbone(torch.randn(1, 3, 96, 64)).final.shape[1] == 6 * 4 + 1
    assert Backbone("test_vit").default_input_size == (160, 160)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "dla46x_c", "crossvit_tiny_240"])
def test_heads_of_several_parts_give_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, num_classes=3).eval()
    image = torch.randn(1, 3, *backbone.default_input_size)
    with torch.no_grad():
        expected = backbone.model(image)
        classifier = backbone.take_classifier()
        assert classifier is not None
        torch.testing.assert_close(classifier(backbone.pool(backbone(image).final)), expected)
    assert backbone.pool(backbone(image).final).shape == (1, backbone.num_features)


def test_without_classes_there_is_no_classifier() -> None:
    assert Backbone("test_resnet").take_classifier() is None
    assert Backbone("squeezenet1_1").take_classifier() is None


def test_weights_from_a_file_and_from_a_tasks_checkpoint(tmp_path: Path) -> None:
    donor = Backbone("test_resnet", num_classes=7)
    plain, task = tmp_path / "plain.pt", tmp_path / "task.ckpt"
    torch.save(donor.model.state_dict(), plain)
    torch.save({"state_dict": {f"network.backbone.{k}": v for k, v in donor.state_dict().items()}}, task)
    for path in (plain, task):
        receiver = Backbone("test_resnet", num_classes=3, weights=path)
        assert torch.equal(receiver.model.layer3[0].conv1.weight, donor.model.layer3[0].conv1.weight)
        assert receiver.model.fc.out_features == 3


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(Backbone("test_convnext").model.state_dict(), path)
    with pytest.raises(CheckpointError, match="do not fit"):
        Backbone("test_resnet", weights=path)
    path.write_text("no weights")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        Backbone("test_resnet", weights=path)
    with pytest.raises(CheckpointError, match="no such file"):
        Backbone("test_resnet", weights=tmp_path / "absent.pt")


def test_a_backbone_survives_pickling_and_reloading(tmp_path: Path) -> None:
    arguments = {"strides": (4, 8), "image_size": (64, 64), "use_final": False}
    first, second = (Backbone("test_vit", **arguments).eval() for _ in range(2))  # type: ignore[arg-type]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(first(image).pyramid[4], second(image).pyramid[4])


def test_gradient_checkpointing_or_a_clear_refusal() -> None:
    Backbone("resnet9").set_grad_checkpointing()
    with pytest.raises(UsageError, match="gradient checkpointing"):
        Backbone("vgg11").set_grad_checkpointing()
